// What the binding files share: the parts of octavo._kernels that have a file of their own.
#pragma once

#include <nanobind/nanobind.h>

void bind_limits(nanobind::module_& m);
