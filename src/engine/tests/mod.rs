//! Stories about the engine, told with a simulated backend.
