"""Executors: how a plan reaches the runner or runners."""
