//! Codecs in pieces: what the bindings want of a resource, for any [`CodecStream`].

use std::cell::RefCell;

use crate::bindings::stream_codec::exports::sluicegate::plugin::stream_codec as host;
use crate::glue::{Adapter, Exported, ask};
use crate::{CodecStream, Error, StreamCodec};

/// A stream that the host holds by a handle.
#[derive(Debug)]
pub struct Handle<S>(RefCell<S>);

impl<S: CodecStream> Handle<S> {
    fn push(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.borrow_mut().push(bytes)
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        self.0.into_inner().finish()
    }
}

impl<S: CodecStream> host::GuestEncoder for Handle<S> {
    fn push(&self, raw: Vec<u8>) -> Result<Vec<u8>, Error> {
        Handle::push(self, &raw)
    }

    fn finish(this: host::Encoder) -> Result<Vec<u8>, Error> {
        this.into_inner::<Self>().finish()
    }
}

impl<S: CodecStream> host::GuestDecoder for Handle<S> {
    fn push(&self, packed: Vec<u8>) -> Result<Vec<u8>, Error> {
        Handle::push(self, &packed)
    }

    fn finish(this: host::Decoder) -> Result<Vec<u8>, Error> {
        this.into_inner::<Self>().finish()
    }
}

impl<P: Exported + StreamCodec> host::Guest for Adapter<P> {
    type Encoder = Handle<P::Encoder>;
    type Decoder = Handle<P::Decoder>;

    fn format() -> String {
        P::FORMAT.into()
    }

    fn open_encoder() -> Result<host::Encoder, Error> {
        ask(|plugin: &P| plugin.encoder().map(|stream| host::Encoder::new(Handle(RefCell::new(stream)))))
    }

    fn open_decoder() -> Result<host::Decoder, Error> {
        ask(|plugin: &P| plugin.decoder().map(|stream| host::Decoder::new(Handle(RefCell::new(stream)))))
    }
}
