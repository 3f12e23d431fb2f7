//! packages
/// check
pub fn check() -> anyhow::Result<()> {
    Ok(())
}
