"""The ways to run a forward: `ops` is the contract, `reference` its meaning, `cpu` the fast C++ one."""
