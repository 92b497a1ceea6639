"""The control language and its socket; knows no program and no setting by name."""
