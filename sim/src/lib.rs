//! The world of Primacy as values, explored at random from seeds.
