//! The answer to INFO. Fields that are not there, or are not what they should be, are left out of the picture: versions have
//! different ones.

/// Names and values, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// `name=value,name=value`
    fn parse(text: &str) -> Self {
        let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(text.split(',').filter_map(pair).collect())
    }

    /// The value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of this name, if it is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// A view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) about: Pairs,
    /// Why it has halted.
    pub(super) halted: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Info {
    fields: Pairs,
    pub(super) views: Vec<View>,
    /// Of the view whose port was asked.
    pub(super) replicas: Vec<Pairs>,
}

impl Info {
    /// Reads the text.
    pub(super) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            // It comes from the network, and goes to a terminal.
            let value: String = value.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            info.take(name, value);
        }
        info
    }

    fn take(&mut self, name: &str, value: String) {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if name.strip_prefix("slave").is_some_and(is_number) {
            return self.replicas.push(Pairs::parse(&value));
        }
        let Some(view) = name.strip_prefix("view_") else {
            return self.fields.0.push((name.to_owned(), value));
        };
        if value.starts_with("port=") {
            self.views.push(View { name: view.to_owned(), about: Pairs::parse(&value), halted: None });
        } else if let Some(of) = view.strip_suffix("_halted")
            && let Some(view) = self.views.iter_mut().find(|view| view.name == of)
        {
            view.halted = Some(value);
        }
    }

    /// A field of the proxy, or of the view whose port was asked.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.fields.number(name)
    }

    /// The view whose port was asked.
    pub(super) fn own_view(&self) -> Option<&View> {
        let port = self.field("tcp_port")?;
        self.views.iter().find(|view| view.about.get("port") == Some(port))
    }
}
