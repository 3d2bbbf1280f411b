"""Tasks: the work of each command, on sources and sinks; every task returns a report."""
