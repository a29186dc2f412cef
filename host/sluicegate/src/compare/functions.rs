//! Function libraries: few, and of the whole server.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::Pair;
use super::report::Difference;
use super::server::Server;
use super::suspects::ROUNDS;
use super::verdict::Class;
use crate::client::Value;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Code by name.
type Libraries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The libraries that still differ after `wait`.
pub(super) fn compare(pair: &mut Pair, wait: Duration) -> anyhow::Result<Vec<Difference>> {
    let first = Instant::now();
    let mut since: Option<(Instant, Libraries)> = None;
    loop {
        let (must, is) = (libraries(&mut pair.primary)?, libraries(&mut pair.replica)?);
        if must == is {
            return Ok(Vec::new());
        }
        match &since {
            Some((begun, seen)) if *seen == must => {
                if begun.elapsed() >= wait {
                    return Ok(differences(&must, &is));
                }
            }
            Some(_) if first.elapsed() >= wait * ROUNDS => return Ok(undecided(&must, &is)),
            _ => since = Some((Instant::now(), must)),
        }
        thread::sleep(PAUSE);
    }
}

fn difference(class: Class, name: &[u8], what: &str) -> Difference {
    Difference { class, db: None, key: Some(name.to_vec()), name: name.to_vec(), what: what.into() }
}

fn undecided(must: &Libraries, is: &Libraries) -> Vec<Difference> {
    let found = differences(must, is);
    found.iter().map(|found| difference(Class::Undecided, &found.name, "it changes all the time")).collect()
}

fn differences(must: &Libraries, is: &Libraries) -> Vec<Difference> {
    let wrong = |(name, code): (&Vec<u8>, &Vec<u8>)| match is.get(name) {
        None => Some(difference(Class::Missing, name, "missing")),
        Some(found) if found != code => Some(difference(Class::Different, name, "other code")),
        Some(_) => None,
    };
    let extra = is.keys().filter(|name| !must.contains_key(*name));
    let extra = extra.map(|name| difference(Class::Extra, name, "extra"));
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
