"""What each page shows, as plain dataclasses that functions read from a source."""
