"""What each command does, on sources and sinks; every task returns a record."""
