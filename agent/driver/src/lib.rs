//! The async loop around the core, generic over clock, store and instance.
