"""What is searched: the keys of a sweep, spaces and domains, sweep files, and what a change of them means."""
