"""Pipeline: functions that read or change a whole memory."""
