//! The core's settings and machine, by the primary's protocol.

use std::fmt;
use std::path::Path;

use sluicegate_core::contract::{Drive, Now};
use sluicegate_core::pack::Codec;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::settings::{Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::{kevy, machine};

use super::{Plugins, entropy};
use crate::config::{Plan, Upstream, ViewPlan};
use crate::reactor::{self, Kept, dial::Primary};

/// What the core is told at its start.
pub(super) enum Core {
    Redis(Settings),
    Kevy(kevy::settings::Settings),
}

impl Core {
    /// What the plan says, and what it leaves to the primary to say: this may wait for it.
    pub(super) fn settle(plan: &Plan, plugins: &Plugins) -> anyhow::Result<Self> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(match &plan.upstream {
            Upstream::Redis(upstream) => Self::Redis(Settings {
                upstream: UpstreamSettings { pack: format(&plan.pack, || plugins.unpacker())?, ..upstream.clone() },
                views: (0..)
                    .zip(&plan.views)
                    .map(|(index, view)| packed(view, index, plugins))
                    .collect::<Result<_, _>>()?,
                users: plan.users.clone(),
                refresh: plan.refresh,
                ships_max: plan.snapshot.ships_max,
                version,
            }),
            Upstream::Kevy(written) => {
                let upstream = super::kevy::settle(written)?;
                let view = |view: &crate::config::ViewPlan| kevy::settings::View {
                    view: view.settings.clone(),
                    shards: view.shards.unwrap_or(upstream.shards),
                };
                let ships_max = plan.snapshot.ships_max;
                let views = plan.views.iter().map(view).collect();
                Self::Kevy(kevy::settings::Settings { views, upstream, ships_max, version })
            }
        })
    }

    /// How many streams the primary has.
    pub(super) fn shards(&self) -> usize {
        match self {
            Self::Redis(_) => 1,
            Self::Kevy(settings) => settings.upstream.shards,
        }
    }

    /// The primary's host and the first of its ports.
    pub(super) fn upstream(&self) -> Primary {
        match self {
            Self::Redis(settings) => {
                Primary { host: settings.upstream.host.clone(), port: settings.upstream.port, many_ports: false }
            }
            Self::Kevy(settings) => {
                Primary { host: settings.upstream.host.clone(), port: settings.upstream.port_base, many_ports: true }
            }
        }
    }

    /// What a view without plugins is, for people.
    pub(super) fn without_plugins(&self) -> &'static str {
        match self {
            Self::Redis(_) => "no plugins: the primary's own history",
            Self::Kevy(_) => "no plugins: all that the primary has",
        }
    }

    /// What the size of a backlog counts for, for people.
    pub(super) fn backlogs(&self) -> &'static str {
        match self {
            Self::Redis(_) => "",
            Self::Kevy(_) => " a shard",
        }
    }

    /// The snapshot that an earlier run left behind, if the machine can begin from it.
    pub(super) fn kept_snapshot(&self, data_dir: &Path, bytes_max: u64) -> Option<Kept> {
        match self {
            Self::Redis(_) => reactor::kept_snapshot(data_dir, bytes_max),
            Self::Kevy(_) => None,
        }
    }

    /// The machine, which begins from the snapshot `kept`. `pipelines` has an entry a view.
    pub(super) fn machine(
        self,
        pipelines: Vec<Option<Box<dyn Pipeline>>>,
        now: Now,
        kept: Option<&Kept>,
    ) -> Box<dyn Drive> {
        let entropy = Box::new(entropy);
        match self {
            Self::Redis(settings) => {
                let mut machine = machine::Machine::new(settings, pipelines, entropy, now);
                if let Some(kept) = kept {
                    machine.resume_from(kept.id, kept.origin.clone());
                }
                Box::new(machine)
            }
            Self::Kevy(settings) => Box::new(kevy::machine::Machine::new(settings, pipelines, entropy, now)),
        }
    }
}

/// What a view of Redis or Valkey is told.
fn packed(view: &ViewPlan, index: usize, plugins: &Plugins) -> anyhow::Result<ViewSettings> {
    Ok(ViewSettings { pack: format(&view.pack, || plugins.packer(index))?, ..view.settings.clone() })
}

/// The format of a codec, if one is named: peers agree on what is packed, not on what the plugin is called here.
fn format(
    name: &Option<String>,
    codec: impl FnOnce() -> anyhow::Result<Box<dyn Codec>>,
) -> anyhow::Result<Option<String>> {
    name.as_ref().map(|_| Ok(codec()?.format().to_owned())).transpose()
}

/// The primary, for people.
impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Primary { host, port, .. } = self.upstream();
        match self {
            Self::Redis(_) => write!(f, "{host}:{port}"),
            Self::Kevy(settings) => {
                let shards = settings.upstream.shards;
                write!(f, "kevy {host}:{port}, {shards} shard{}", if shards == 1 { "" } else { "s" })
            }
        }
    }
}
