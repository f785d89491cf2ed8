"""What goes into a shard set: samples encoded, kept in a folder, packed and checked."""
