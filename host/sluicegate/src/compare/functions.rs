//! Function libraries: few, and of the whole server.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::Pair;
use super::server::Server;
use crate::client::Value;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Code by name.
type Libraries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The libraries that still differ after `wait`, by name, with what is wrong.
pub(super) fn compare(pair: &mut Pair, wait: Duration) -> anyhow::Result<Vec<(Vec<u8>, String)>> {
    let mut since: Option<(Instant, Libraries)> = None;
    loop {
        let (must, is) = (libraries(&mut pair.primary)?, libraries(&mut pair.replica)?);
        if must == is {
            return Ok(Vec::new());
        }
        let begun = match since.take() {
            Some((begun, seen)) if seen == must => begun,
            _ => Instant::now(),
        };
        if begun.elapsed() >= wait && wait > Duration::ZERO {
            return Ok(differences(&must, &is));
        }
        since = Some((begun, must));
        thread::sleep(PAUSE);
    }
}

fn differences(must: &Libraries, is: &Libraries) -> Vec<(Vec<u8>, String)> {
    let wrong = |(name, code): (&Vec<u8>, &Vec<u8>)| match is.get(name) {
        None => Some((name.clone(), "missing: function library".to_owned())),
        Some(found) if found != code => Some((name.clone(), "function library: other code".to_owned())),
        Some(_) => None,
    };
    let extra = is.keys().filter(|name| !must.contains_key(*name));
    let extra = extra.map(|name| (name.clone(), "extra: function library".to_owned()));
    must.iter().filter_map(wrong).chain(extra).collect()
}

fn libraries(server: &mut Server) -> anyhow::Result<Libraries> {
    let list = server.ask(&[b"FUNCTION", b"LIST", b"WITHCODE"])?;
    let field = |library: &Value, name: &str| {
        let mut pairs = library.elements().chunks_exact(2);
        match pairs.find(|pair| pair[0].text() == name).map(|pair| &pair[1]) {
            Some(Value::Bulk(bytes)) => bytes.clone(),
            _ => Vec::new(),
        }
    };
    let entry = |library| (field(library, "library_name"), field(library, "library_code"));
    Ok(list.elements().iter().map(entry).collect())
}
