"""The runner turns a StepPlan into a StepResult: one device set with its weights, KV pages and rows."""
