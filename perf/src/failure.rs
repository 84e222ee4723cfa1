//! Why a scenario could not be carried out, as far as whoever reads it needs to know.

/// What a command ends with if it could not do its work.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
