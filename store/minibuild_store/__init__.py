"""A content-addressed store for builders: blobs, records, snapshots and locks in one folder."""
