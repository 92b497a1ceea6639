"""The control language and the socket it is spoken over; knows no program and no setting by name."""
