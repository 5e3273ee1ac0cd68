"""Forward recording: which torch call and which module call made which node, and what it computed."""
