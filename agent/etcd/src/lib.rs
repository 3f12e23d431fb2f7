//! A small etcd v3 client: transactions, linearizable reads, watches, leases, rotation of endpoints.
