// The limit loops as a class of octavo._kernels.
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <stdexcept>

#include "binding.h"
#include "limits/limits.h"

namespace nb = nanobind;
using namespace octavo;
using namespace nb::literals;

namespace {

Arithmetic arithmetic_of(int number) {
  if (number < 0 || number > 2) throw std::invalid_argument("arithmetics are 0 (f32), 1 (bf16) and 2 (int8)");
  return static_cast<Arithmetic>(number);
}

}  // namespace

void bind_limits(nb::module_& m) {
  using Release = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<Limits>(m, "Limits")
      .def(nb::new_([](std::shared_ptr<Pool> pool, const std::string& isa, int64_t nbytes) {
             if (nbytes < kLimitLine) throw std::invalid_argument("the limit loops need more memory than that");
             nb::gil_scoped_release release;
             return std::make_shared<Limits>(std::move(pool), isa_named(isa.c_str()), nbytes);
           }), "pool"_a, "isa"_a, "nbytes"_a)
      .def("read", &Limits::read, "nbytes"_a, "repeats"_a, Release())
      .def("copy", &Limits::copy, "nbytes"_a, "repeats"_a, Release())
      .def("multiply", [](Limits& self, int arithmetic, int64_t rounds) {
             return self.multiply(arithmetic_of(arithmetic), rounds);
           }, "arithmetic"_a, "rounds"_a, Release())
      .def("operations", [](const Limits& self, int arithmetic, int64_t rounds) {
             return self.operations(arithmetic_of(arithmetic), rounds);
           }, "arithmetic"_a, "rounds"_a);
}
