//! A codec in pieces that packs nothing, and every way in which it can misbehave, chosen by the setting `mode`. For the
//! tests of the plugin room only.

use sluicegate_plugin::{CodecStream, Error, Plugin, Settings, StreamCodec, export};

/// What stands before a block.
const MARK: &[u8] = b"[";
/// What stands behind it, so that a decoder knows whether it is complete.
const END: u8 = b']';

struct Hostile {
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    WellBehaved,
    OpenRejected,
    PushRejected,
    PushPanic,
    PushHuge,
    FinishPanic,
    FinishHuge,
}

impl Plugin for Hostile {
    fn init(settings: &Settings) -> Result<Self, String> {
        let mode = match settings.get("mode").unwrap_or("well-behaved") {
            "well-behaved" => Mode::WellBehaved,
            "open-rejected" => Mode::OpenRejected,
            "push-rejected" => Mode::PushRejected,
            "push-panic" => Mode::PushPanic,
            "push-huge" => Mode::PushHuge,
            "finish-panic" => Mode::FinishPanic,
            "finish-huge" => Mode::FinishHuge,
            other => return Err(format!("no mode `{other}`")),
        };
        Ok(Self { mode })
    }
}

impl StreamCodec for Hostile {
    const FORMAT: &'static str = "brackets";
    type Encoder = Encoder;
    type Decoder = Decoder;

    fn encoder(&self) -> Result<Encoder, Error> {
        match self.mode {
            Mode::OpenRejected => Err(Error::Rejected("not today".into())),
            mode => Ok(Encoder { mode, begun: false }),
        }
    }

    fn decoder(&self) -> Result<Decoder, Error> {
        Ok(Decoder::default())
    }
}

struct Encoder {
    mode: Mode,
    begun: bool,
}

impl CodecStream for Encoder {
    fn push(&mut self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        match self.mode {
            Mode::PushRejected => return Err(Error::Rejected("not this".into())),
            Mode::PushPanic => panic!("a panic in push"),
            Mode::PushHuge => return Ok(vec![0; raw.len() + (1 << 20)]),
            _ => {}
        }
        let mark = if std::mem::replace(&mut self.begun, true) { &[][..] } else { MARK };
        Ok([mark, raw].concat())
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        match self.mode {
            Mode::FinishPanic => panic!("a panic in finish"),
            Mode::FinishHuge => Ok(vec![0; 1 << 20]),
            _ => Ok(vec![END]),
        }
    }
}

/// Holds back the last byte: it may be the end.
#[derive(Default)]
struct Decoder {
    begun: bool,
    last: Option<u8>,
}

impl CodecStream for Decoder {
    fn push(&mut self, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let damaged = || Error::Rejected("no bracket".into());
        let begun = std::mem::replace(&mut self.begun, true);
        let packed = if begun { packed } else { packed.strip_prefix(MARK).ok_or_else(damaged)? };
        let Some((last, rest)) = packed.split_last() else { return Ok(Vec::new()) };
        let before = self.last.replace(*last);
        Ok(before.into_iter().chain(rest.iter().copied()).collect())
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        match self.last {
            Some(END) => Ok(Vec::new()),
            _ => Err(Error::Rejected("the block is not complete".into())),
        }
    }
}

export!(Hostile: stream_codec);
