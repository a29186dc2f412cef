//! What `sluicegate validate` says to an operator: where the mistake is, what it is, and what would be right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A configuration that can be used; the mistakes below are made in it.
const GOOD: &str = r#"[upstream]
address = "127.0.0.1:6379"

[[view]]
name = "eu"
listen = [":7000"]
pipeline = ["drop-tmp"]

[[plugin]]
name = "drop-tmp"
builtin = "key-filter"
config = { deny = "tmp:*" }
"#;

struct Mistake {
    /// What to replace in the good file, and by what.
    change: (&'static str, &'static str),
    /// Line and column, and what is said there.
    place: &'static str,
    says: &'static str,
}

const fn mistake(from: &'static str, to: &'static str, place: &'static str, says: &'static str) -> Mistake {
    Mistake { change: (from, to), place, says }
}

const MISTAKES: &[Mistake] = &[
    mistake("pipeline =", "pipline =", "7:1", "unknown key `pipline`, did you mean `pipeline`?"),
    mistake("[upstream]", "[upstraem]", "1:2", "unknown key `upstraem`, did you mean `upstream`?"),
    mistake("[\"drop-tmp\"]", "[\"drop-tpm\"]", "7:13", "unknown plugin `drop-tpm`, did you mean `drop-tmp`?"),
    mistake("\"key-filter\"", "\"key-fliter\"", "11:11", "did you mean `key-filter`?"),
    mistake("[[plugin]]", "[snapshot]\ncodec = \"drop-tpm\"\n[[plugin]]", "10:9", "did you mean `drop-tmp`?"),
    mistake("builtin = \"key-filter\"", "path = \"no.wasm\"", "11:8", "there is no file"),
    mistake("builtin =", "path = \"x.wasm\"\nbuiltin =", "12:11", "has a `path` and a `builtin`: keep one"),
    mistake("builtin = \"key-filter\"", "fuel = 0", "10:8", "needs a `path` to a component, or a `builtin`"),
    mistake("builtin =", "on_error = \"pass\"\nbuiltin =", "11:12", "set `exact = false` there"),
    mistake("pipeline =", "cross-key = \"drop\"\npipeline =", "7:13", "set `exact = false`, or use \"repair\""),
    mistake("pipeline =", "cross-key = \"repare\"\npipeline =", "7:13", "did you mean `repair`?"),
    mistake("pipeline =", "limits = { repair_time = \"90s\" }\npipeline =", "7:26", "`limits.repair_time` is 90s"),
    mistake("builtin =", "on_error = \"hlat\"\nbuiltin =", "11:12", "did you mean `halt`?"),
    mistake("builtin =", "memory = \"16mbb\"\nbuiltin =", "11:10", "bad size `16mbb`"),
    mistake("builtin =", "deadline = 5\nbuiltin =", "11:12", "it needs a unit, like \"5s\" or \"5ms\""),
    mistake("builtin =", "sha256 = \"9f31\"\nbuiltin =", "11:10", "it has 64 hexadecimal digits, this has 4"),
    mistake("config =", "config = { at = 1979-05-27 } #", "12:17", "a string, a number, a boolean"),
    mistake("127.0.0.1:6379", "127.0.0.1", "2:11", "it needs a host and a port"),
    mistake("[[view]]", "timeout = \"10\"\n[[view]]", "4:11", "bad time `10`"),
    mistake("[[view]]", "timeout = \"1s\"\n[[view]]", "4:11", "`timeout` is 1s; it can be 3s to 3600s"),
    mistake("[[view]]", "backoff = { min = \"20s\" }\n[[view]]", "4:19", "above `backoff.max`, which is 10s"),
    mistake("[[view]]", "announce_version = \"9\"\n[[view]]", "4:20", "write it like \"9.1.0\""),
    mistake("[[view]]", "pack = \"drop-tpm\"\n[[view]]", "4:8", "unknown plugin `drop-tpm`, did you mean `drop-tmp`?"),
    mistake("pipeline =", "pack = \"zsdt\"\npipeline =", "7:8", "unknown plugin `zsdt`"),
    mistake("[[view]]", "username = \"x\"\n[[view]]", "4:12", "a username needs a password"),
    mistake("[[view]]", "password_file = \"none\"\n[[view]]", "4:17", "cannot read"),
    mistake("[[view]]", "password = \"x\"\n[[view]]", "4:1", "unknown key `password`, did you mean `password_"),
    mistake("[\":7000\"]", "\":7000\"", "6:10", "expected an array"),
    mistake("[\":7000\"]", "[]", "6:10", "view `eu` listens nowhere"),
    mistake("[\":7000\"]", "[\"localhost:7000\"]", "6:11", "write \"127.0.0.1:7000\""),
    mistake("[\":7000\"]", "[\":7000\", \"0.0.0.0:7000\"]", "6:20", "0.0.0.0:7000 clashes with 127.0.0.1:7000"),
    mistake(
        "[[plugin]]",
        "[[view]]\nname = \"eu\"\nlisten = [\":1\"]\n[[plugin]]",
        "10:8",
        "two views with the name `eu`",
    ),
    mistake("[[plugin]]", "[view.backlog]\nmemory = \"1kb\"\n[[plugin]]", "10:10", "it can be 1mb to 1024gb"),
    mistake("[[plugin]]", "[view.backlog]\ndisk = \"2048gb\"\n[[plugin]]", "10:8", "it can be 0b to 1024gb"),
    mistake(
        "[[plugin]]",
        "[view.backlog]\nmemory = \"2mb\"\n[view.limits]\nreplica_output = { hard = \"4mb\" }\n[[plugin]]",
        "12:27",
        "above the view's backlog, which is 2mb",
    ),
    mistake("[[view]]", "[snapshot]\ndisk = \"1kb\"\n[[view]]", "5:8", "`disk` is 1kb; it can be 1mb to 1048576gb"),
    mistake("[[view]]", "[snapshot]\nships = 0\n[[view]]", "5:9", "`ships` is 0; it can be 1 to 1000"),
    mistake("[[view]]", "[snapshot]\nrate = \"1kb\"\n[[view]]", "5:8", "`rate` is 1kb; it can be 64kb to"),
    mistake("pipeline =", "snapshot_rate = \"17b\"\npipeline =", "7:17", "`snapshot_rate` is 17b; it can be 64kb to"),
    mistake("[[plugin]]", "[[user]]\nname = \"a\"\npassword_sha256 = \"zz\"\n[[plugin]]", "11:19", "bad sha256"),
    mistake(
        "[[view]]",
        "[snapshot]\nrefresh_log = \"1kb\"\n[[view]]",
        "5:15",
        "`refresh_log` is 1kb; it can be 64kb to",
    ),
    mistake("[[view]]", "[snapshot]\nrefresh_age = \"1s\"\n[[view]]", "5:15", "`refresh_age` is 1s; it can be 10s to"),
    mistake("[[view]]", "[snapshot]\nrefresh_every = \"0s\"\n[[view]]", "5:17", "it can be 1s to"),
    mistake("[\":7000\"]", "[\":7000\"]\nfloor = \"7.0\"", "7:9", "bad floor `7.0`: write \"redis 7.0\""),
    mistake("[\":7000\"]", "[\":7000\"]\nfloor = \"redis seven\"", "7:9", "bad version `seven`"),
    mistake("[\":7000\"]", "[\":7000\"]\nfloor = \"redis 6.0\"", "7:9", "it can be Redis 6.2 and later"),
    mistake("[\":7000\"]", "[\":7000\"]\nfloor = \"Valkey 7.0\"", "7:9", "it can be Valkey 7.2 and later"),
    mistake("[[view]]", "[log]\nlevel = \"eu=wha=t\"\n[[view]]", "5:9", "write error, warn, info, debug or trace"),
];

/// One with a kevy primary, of two shards.
const KEVY: &str = r#"[upstream]
protocol = "kevy"
address = "127.0.0.1:16379"
shards = 2

[[view]]
name = "eu"
listen = [":7000"]

[[view]]
name = "us"
listen = [":7002"]
shards = 4
"#;

const KEVY_MISTAKES: &[Mistake] = &[
    mistake("\"kevy\"", "\"kev\"", "2:12", "did you mean `kevy`?"),
    mistake("shards = 2\n", "", "3:11", "set `shards`, or `client_address` to ask it"),
    mistake("shards = 2", "shards = 0", "4:10", "`shards` is 0; it can be 1 to 1024"),
    mistake(":16379", ":65535", "3:11", "the last port is 65535"),
    mistake("shards = 2", "shards = 2\nclient_address = \"db\"", "5:18", "it needs a host and a port"),
    mistake("shards = 2", "shards = 2\ndialect = \"k4\"", "5:11", "unknown value `k4`"),
    mistake("shards = 2", "shards = 2\nrouting = \"wholekey\"", "5:11", "did you mean `whole-key`?"),
    mistake("shards = 2", "shards = 2\nusername = \"x\"", "5:12", "replication links have no passwords"),
    mistake("shards = 2", "shards = 2\npassword_env = \"HOME\"", "5:16", "replication links have no passwords"),
    mistake("shards = 2", "shards = 2\npassword_file = \"none\"", "5:17", "replication links have no passwords"),
    mistake("shards = 2", "shards = 2\nannounce_port = 7000", "5:17", "does not tell its primary where it listens"),
    mistake("shards = 2", "shards = 2\nannounce_version = \"9.1.0\"", "5:20", "do not tell each other their versions"),
    mistake("shards = 2", "shards = 2\nshard = 3", "5:1", "unknown key `shard`, did you mean `shards`?"),
    mistake("[\":7000\"]", "[\":7001\"]", "12:11", "127.0.0.1:7002-7005 clashes with 127.0.0.1:7001-7002"),
    mistake("[\":7002\"]", "[\":65533\"]", "12:11", "there are no 4 ports from 127.0.0.1:65533 on"),
    mistake(
        "[[view]]",
        "[snapshot]\nrefresh_log = \"1gb\"\n[[view]]",
        "7:15",
        "come with the stream that follows them",
    ),
    mistake("shards = 4", "unknown_replica = \"refuse\"", "13:19", "do not tell each other their versions"),
    mistake("shards = 4", "[view.backlog]\ndisk = \"1gb\"", "14:8", "is kept in memory"),
    mistake("shards = 4", "floor = \"redis 7.0\"", "13:9", "use `dialect` in [upstream]"),
    mistake("shards = 4", "[view.limits]\ntransaction = \"64mb\"", "14:15", "no transactions"),
    mistake("[[view]]", "[[user]]\nname = \"a\"\npassword_sha256 = \"zz\"\n[[view]]", "7:8", "cannot log in"),
    mistake("protocol = \"kevy\"", "protocol = \"redis\"", "4:10", "`shards` is for `protocol = \"kevy\"`"),
    mistake("protocol = \"kevy\"", "protocol = \"valkey\"", "13:10", "`shards` is for `protocol = \"kevy\"`"),
    mistake("protocol = \"kevy\"", "client_address = \"h:1\"", "2:18", "`client_address` is for `protocol = \"kevy\"`"),
    mistake("protocol = \"kevy\"", "dialect = \"k1\"", "2:11", "`dialect` is for `protocol = \"kevy\"`"),
    mistake("protocol = \"kevy\"", "routing = \"slots\"", "2:11", "`routing` is for `protocol = \"kevy\"`"),
];

#[test]
fn every_mistake_is_shown_where_it_stands() {
    let kevy = KEVY_MISTAKES.iter().map(|mistake| (KEVY, mistake));
    for (good, Mistake { change, place, says }) in MISTAKES.iter().map(|mistake| (GOOD, mistake)).chain(kevy) {
        assert!(good.contains(change.0), "the change does not fit the good file: {change:?}");
        let folder = folder_with(&good.replacen(change.0, change.1, 1));
        let said = validate(&folder.path().join("sluicegate.toml"));
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let story = format!("after {change:?} validate said:\n{text}");
        assert_eq!(said.status.code(), Some(78), "{story}");
        let prefix = format!("sluicegate.toml:{place}: ");
        let line = text.lines().position(|line| line.contains(&prefix) && line.contains(says));
        let line = line.unwrap_or_else(|| panic!("no line with {prefix}…{says}; {story}"));
        let caret = text.lines().nth(line + 2).unwrap_or_default();
        let column: usize = place.rsplit(':').next().and_then(|column| column.parse().ok()).unwrap_or_default();
        let number = place.split(':').next().unwrap_or_default();
        assert_eq!(caret.find('^'), Some(number.len() + 4 + column - 1), "the caret of {place}; {story}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let text = GOOD.replace("[\"drop-tmp\"]", "[\"other\"]").replace("127.0.0.1:6379", "here");
    let folder = folder_with(&text);
    let said = String::from_utf8_lossy(&validate(&folder.path().join("sluicegate.toml")).stderr).into_owned();
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what} in:\n{said}"));
    assert!(at(":2:11: bad address `here`") < at(":7:13: unknown plugin `other`"));
    assert!(at(":7:13: unknown plugin") < at(":10:8: warning: no view uses plugin `drop-tmp`"));
}

#[test]
fn a_good_file_passes_and_leaves_nothing_behind() {
    let folder = folder_with(GOOD);
    let said = validate(&folder.path().join("sluicegate.toml"));
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(fs::read_dir(folder.path()).map(Iterator::count).ok(), Some(1), "validate wrote something");
}

#[test]
fn the_ports_of_a_view_are_shown_as_far_as_they_are_known() {
    let shown = |text: &str| {
        let folder = folder_with(text);
        let said = validate(&folder.path().join("sluicegate.toml"));
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let known = shown(KEVY);
    assert!(known.contains("127.0.0.1:7000-7001") && known.contains("127.0.0.1:7002-7005"), "{known}");
    assert!(!known.contains("further shard"), "{known}");
    // Nothing answers there, and nothing is asked.
    let asked = shown(&KEVY.replace("shards = 2", "client_address = \"127.0.0.1:1\""));
    let line = |view: &str| asked.lines().find(|line| line.contains(view)).unwrap_or_default().to_owned();
    assert!(line(" eu ").contains("one port more for each further shard"), "{asked}");
    assert!(line(" us ").contains("127.0.0.1:7002-7005") && !line(" us ").contains("further"), "{asked}");
}

#[test]
fn a_plugin_that_refuses_its_settings_is_found_before_it_runs() {
    let folder = folder_with(&GOOD.replace("deny =", "dney ="));
    let said = validate(&folder.path().join("sluicegate.toml"));
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(78), "{text}");
    assert!(text.contains(":11:11: plugin `drop-tmp`: ") && text.contains("dney"), "{text}");
}

#[test]
fn only_a_codec_can_pack() {
    let packed = |plugin: &str| {
        let more = "[[plugin]]\nname = \"small\"\nbuiltin = \"zstd\"\n";
        let pack = format!("pack = {plugin:?}\n[[view]]\npack = {plugin:?}");
        let folder = folder_with(&(GOOD.replace("[[view]]", &pack) + more));
        let said = validate(&folder.path().join("sluicegate.toml"));
        (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    assert_eq!(packed("small"), (Some(0), String::new()));
    let (code, text) = packed("drop-tmp");
    assert!(code == Some(78) && text.contains("it is no codec"), "{text}");
}

#[test]
fn an_open_port_without_users_is_warned_of() {
    let folder = folder_with(&GOOD.replace("\":7000\"", "\"0.0.0.0:7000\""));
    let said = validate(&folder.path().join("sluicegate.toml"));
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(text.contains(":6:10: warning: whoever reaches 0.0.0.0:7000 can copy this view"), "{text}");
}

#[test]
fn every_example_can_be_used() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&examples).expect("the folder of examples") {
        files.push(entry.expect("an entry of the examples").path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let said = validate(&file);
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(0), "{}: {text}", file.display());
        assert!(!text.contains("warning"), "{}: {text}", file.display());
    }
}

#[test]
fn wrong_usage_and_missing_files_have_codes_of_their_own() {
    let code = |args: &[&str]| sluicegate(args).status.code();
    assert_eq!(code(&["run"]), Some(64), "neither a file nor an upstream");
    assert_eq!(code(&["run", "--upstream", "h:1"]), Some(64), "nowhere to listen");
    assert_eq!(code(&["rnu"]), Some(64), "no such verb");
    assert_eq!(code(&["validate", "--config", "/nowhere/sluicegate.toml"]), Some(74), "no such file");
    assert_eq!(code(&["run", "--upstream", "h", "--listen", ":7000"]), Some(78), "no port");
    assert_eq!(code(&["--version"]), Some(0));
}

fn folder_with(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("sluicegate.toml"), text).expect("writing the configuration");
    folder
}

fn validate(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("validate")
        .arg("--config")
        .arg(file)
        .output()
        .expect("the program runs")
}

fn sluicegate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(args).output().expect("the program runs")
}
