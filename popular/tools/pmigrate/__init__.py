"""pmigrate: moving mailboxes to POPular so that no client fetches a message twice."""
