//! What `wit-bindgen` makes of the contract: one world per exported interface, so that [`export!`](crate::export) can put
//! together just those that a plugin has. All share the types of the first.
#![allow(missing_docs, unreachable_pub, clippy::all)] // Generated code.

/// Every plugin: its imports and `lifecycle`.
pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world lifecycle-part {
                import sluicegate:plugin/log@0.1.0;
                import sluicegate:plugin/metrics@0.1.0;
                export sluicegate:plugin/lifecycle@0.1.0;
            }",
        world: "sluicegate:sdk/lifecycle-part",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "sluicegate_plugin::bindings::lifecycle",
    });
}

/// `key-filter` alone.
pub mod key_filter {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world key-filter-part { export sluicegate:plugin/key-filter@0.1.0; }",
        world: "sluicegate:sdk/key-filter-part",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::lifecycle::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_key_filter",
        default_bindings_module: "sluicegate_plugin::bindings::key_filter",
    });
}

/// `frame-filter` alone.
pub mod frame_filter {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world frame-filter-part { export sluicegate:plugin/frame-filter@0.1.0; }",
        world: "sluicegate:sdk/frame-filter-part",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::lifecycle::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_frame_filter",
        default_bindings_module: "sluicegate_plugin::bindings::frame_filter",
    });
}

/// `key-transform` alone.
pub mod key_transform {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world key-transform-part { export sluicegate:plugin/key-transform@0.1.0; }",
        world: "sluicegate:sdk/key-transform-part",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::lifecycle::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_key_transform",
        default_bindings_module: "sluicegate_plugin::bindings::key_transform",
    });
}

/// `block-codec` alone.
pub mod block_codec {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world block-codec-part { export sluicegate:plugin/block-codec@0.1.0; }",
        world: "sluicegate:sdk/block-codec-part",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::lifecycle::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_block_codec",
        default_bindings_module: "sluicegate_plugin::bindings::block_codec",
    });
}

/// `stream-codec` alone.
pub mod stream_codec {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sluicegate:sdk;
            world stream-codec-part { export sluicegate:plugin/stream-codec@0.1.0; }",
        world: "sluicegate:sdk/stream-codec-part",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::lifecycle::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_stream_codec",
        default_bindings_module: "sluicegate_plugin::bindings::stream_codec",
    });
}
