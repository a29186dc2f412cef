//! Configuration: the file is what was written, the plan is what it means.

mod address;
mod file;
mod plan;
mod report;
mod shorthand;
mod units;

use std::path::Path;

pub(crate) use address::{Ports, upstream as host_and_port};
pub(crate) use file::LogFormat;
#[cfg(test)]
pub(crate) use plan::Patience;
pub(crate) use plan::{Kevy, LogPlan, Plan, PluginPlan, Upstream, ViewPlan};
pub(crate) use report::{ConfigError, unknown};
pub(crate) use shorthand::Shorthand;
pub(crate) use units::Time;

/// Reads, checks and understands a file. Touches nothing but the file and the password file that it names.
///
/// # Errors
/// The file cannot be read (an `io::Error`), or does not make sense (a [`ConfigError`] with every problem found).
pub(crate) fn load(path: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
    let source = report::Source { name: path.display().to_string(), text };
    let file = toml::from_str(&source.text)
        .map_err(|error| ConfigError(source.render(&[report::from_toml(&error)]).concat()))?;
    plan::understand(&file, path.parent().unwrap_or(Path::new("")), &source)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Upstream;

    #[test]
    fn a_password_is_used_and_never_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("secret"), "canary-7f3a\n").expect("writing the password");
        let text =
            "[upstream]\naddress = \"h:1\"\npassword_file = \"secret\"\n[[view]]\nname = \"a\"\nlisten = [\":7000\"]\n";
        fs::write(folder.path().join("a.toml"), text).expect("writing the configuration");
        let plan = super::load(&folder.path().join("a.toml")).expect("a good configuration");
        assert!(
            matches!(&plan.upstream, Upstream::Redis(upstream) if upstream.password.as_deref() == Some("canary-7f3a"))
        );
        assert!(!format!("{plan:?}").contains("canary"), "{plan:?}");
    }

    #[test]
    fn the_settings_of_a_plugin_keep_their_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = "[upstream]\naddress = \"h:1\"\n[[view]]\nname = \"a\"\nlisten = [\":7000\"]\npipeline = [\"p\"]\n\
             [[plugin]]\nname = \"p\"\nbuiltin = \"key-filter\"\n[plugin.config]\nz = [\"2\", 1]\nb = true\na = 0.5\n";
        fs::write(folder.path().join("a.toml"), text).expect("writing the configuration");
        let plan = super::load(&folder.path().join("a.toml")).expect("a good configuration");
        let settings: Vec<String> =
            plan.plugins[0].settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(settings, ["z=2", "z=1", "b=true", "a=0.5"]);
    }
}
