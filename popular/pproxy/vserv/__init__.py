"""What a virtual server offers to its clients, and how it knows who they are."""
