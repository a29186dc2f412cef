//! Snapshots that rest packed on the disk: replicas get what they would get otherwise, and the disk holds less.

use std::fs;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, Proxy, run_to_end};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::PATIENCE;
use sluicegate_tests::workload::Workload;

const PACKED: &str = r#"
[[plugin]]
name = "small"
builtin = "BUILTIN"
[snapshot]
codec = "small"
"#;

#[test]
fn replicas_of_a_packed_snapshot_are_equal_to_the_primary() -> Result<()> {
    for (builtin, kind) in [("lz4", Kind::Redis70), ("zstd", Kind::Valkey91)] {
        let primary = Server::start(kind, &["--rdbcompression", "no"])?;
        let mut workload = Workload::new(77, kind, kind);
        let mut client = primary.client()?;
        workload.write(&mut client, 3_000)?;
        for n in 0..400 {
            let value = format!("{{\"name\":\"user {n}\",\"tags\":[\"a\",\"b\"]}}").repeat(50);
            client.call(&["SET", &format!("user:packed:{n}"), &value])?;
        }
        let proxy = Proxy::start(Config::new(primary.addr()).both_views().tables(&PACKED.replace("BUILTIN", builtin)))?;

        let mut replicas = Vec::new();
        for (name, view) in [("all", View::IDENTITY), ("members", View::MEMBERS), ("all", View::IDENTITY)] {
            let replica = Server::replica_of(kind, proxy.addr(name))?;
            assert_same(&primary, &replica, view, PATIENCE).with_context(|| proxy.context())?;
            replicas.push((replica, view));
            workload.write(&mut client, 500)?;
        }
        for (replica, view) in &replicas {
            assert_same(&primary, replica, *view, PATIENCE).with_context(|| proxy.context())?;
        }
        let full_syncs = client.info_field("stats", "sync_full")?;
        ensure!(full_syncs == "1", "the primary made {full_syncs} full syncs\n{}", proxy.context());

        // What lies there is packed, and says by what.
        let data = proxy.config_file().with_file_name("data");
        let mut packed = Vec::new();
        for entry in fs::read_dir(&data)? {
            let bytes = fs::read(entry?.path())?;
            if bytes.starts_with(b"SLUICEPACK1") {
                packed.push(bytes);
            }
        }
        let [packed] = &packed[..] else { anyhow::bail!("{} packed files in {}", packed.len(), data.display()) };
        ensure!(packed[12..].starts_with(builtin.as_bytes()), "{}", packed[..20].escape_ascii());
        let line = proxy.wait_log(&["rests packed on disk"])?;
        let number = |name: &str| -> Result<u64> {
            let value = line.split(&format!("{name}=")).nth(1).with_context(|| line.clone())?;
            Ok(value.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?)
        };
        ensure!(number("packed")? == packed.len() as u64 && number("packed")? * 2 < number("raw")?, "{line}");
    }
    Ok(())
}

#[test]
fn a_codec_is_named_where_something_is_packed_and_nowhere_else() -> Result<()> {
    let codec = PACKED.replace("BUILTIN", "lz4");
    for (pipeline, tables, says) in [
        ("small", codec.clone(), "plugin `small`: it is a codec (block-codec) and has no say in a view"),
        ("members", codec.replace("lz4", "key-filter"), "plugin `small`: it is no codec: it exports key-filter"),
    ] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sluicegate.toml");
        let text = format!(
            "[upstream]\naddress = \"127.0.0.1:1\"\n[[view]]\nname = \"v\"\nlisten = [\":7000\"]\npipeline = [\"{pipeline}\"]\n\
             [[plugin]]\nname = \"members\"\nbuiltin = \"key-filter\"\n{tables}"
        );
        fs::write(&file, text)?;
        for verb in ["validate", "run"] {
            let (code, said) = run_to_end(&[verb, "--config", &file.display().to_string()])?;
            ensure!(code == 78 && said.contains(says), "{verb} ended with {code}:\n{said}");
        }
    }
    Ok(())
}
