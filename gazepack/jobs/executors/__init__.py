"""Who runs the units."""

from gazepack.jobs.executors.serial import run_serial

__all__ = ["run_serial"]
