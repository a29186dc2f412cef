//! The same question has the same answer, whatever the batch, the instance and the room.

use crate::support::{ask, pipeline};
use sluicegate_guest::{GuestPipeline, PluginSpec};

fn view(fuel: Option<u64>) -> GuestPipeline {
    let mut filter = PluginSpec::new("filter", sluicegate_bundle::KEY_FILTER)
        .set("allow", "user:*")
        .set("allow", "*[0-4]")
        .set("deny", "*:7?:*");
    let mut rename = PluginSpec::new("rename", sluicegate_bundle::KEY_RENAME).set("rule", "user:* => u:*");
    (filter.fuel, rename.fuel) = (fuel, fuel);
    pipeline([filter, rename]).expect("loads")
}

#[test]
fn answers_do_not_depend_on_batch_size_instance_or_fuel() {
    let keys: Vec<String> = (0..1_024)
        .map(|n| match n % 3 {
            0 => format!("user:{n}:profile"),
            1 => format!("session:{n}"),
            _ => format!("user:{}", "x".repeat(n % 40)),
        })
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let answers = |view: &mut GuestPipeline, size: usize| -> Vec<Option<String>> {
        keys.chunks(size).flat_map(|batch| ask(view, 0, batch).expect("answers")).collect()
    };
    let expected = answers(&mut view(None), 512);
    assert!(expected.iter().any(Option::is_none) && expected.iter().any(Option::is_some));
    let mut old = view(None);
    for size in [1, 2, 3, 7, 16, 64, 100, 511, 512] {
        assert_eq!(answers(&mut old, size), expected, "an instance that has lived, batches of {size}");
        assert_eq!(answers(&mut view(None), size), expected, "a fresh instance, batches of {size}");
    }
    assert_eq!(answers(&mut view(Some(10_000_000)), 512), expected, "with counted instructions");
}
