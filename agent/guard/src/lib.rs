//! The guard: the process that stops PostgreSQL when its deadline passes, whatever the agent does.
