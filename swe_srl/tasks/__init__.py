"""Where tasks come from: rows of a suite as `Task`s, their broken trees, and the tests that judge."""
