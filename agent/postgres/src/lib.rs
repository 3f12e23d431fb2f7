//! What the agent does to a PostgreSQL instance: files, processes, SQL.
