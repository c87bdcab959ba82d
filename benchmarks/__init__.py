"""Side-by-side measurements of Octavo and other engines; results with their method lie in results/."""
