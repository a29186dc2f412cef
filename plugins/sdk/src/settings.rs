//! The operator's settings.

/// The plugin's section of the configuration, in the order in which it was written.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pairs: Vec<(String, String)>,
}

impl Settings {
    /// Settings of these pairs; what the host calls, and tests of plugins.
    pub fn new<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self { pairs: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// The last value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every value of `name`, in order.
    pub fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.pairs.iter().filter(move |pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    /// Every setting, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses settings that are not among `known`, so that a typing error is not silently ignored.
    pub fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => Err(format!("unknown setting `{name}`; known are: {}", known.join(", "))),
            None => Ok(()),
        }
    }
}
