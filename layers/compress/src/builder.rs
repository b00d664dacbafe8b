//! The settings of the layer.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "dictionary")]
use crate::dictionary::{Dictionaries, DictionarySettings};
use crate::encoding::Encoding;
use crate::error::ConfigError;
use crate::etag::EntityTags;
use crate::layer::CompressLayer;
use crate::level::Levels;
use crate::media_type::Pattern;
use crate::policy::{Policy, ResponseHead, Settings, When};

/// Settings of a [`CompressLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`encodings`](Self::encodings) | all whose features are enabled: zstd, br, gzip, deflate |
/// | [`encodings_for`](Self::encodings_for) | the same for all types |
/// | [`min_size`](Self::min_size) | 1024 bytes |
/// | [`compress_type`](Self::compress_type), [`leave_type`](Self::leave_type) | the types that compress well |
/// | [`event_streams`](Self::event_streams) | no |
/// | [`when`](Self::when) | always |
/// | [`levels`](Self::levels) | [`Levels::dynamic`] |
/// | [`entity_tags`](Self::entity_tags) | [`EntityTags::Suffix`] |
/// | [`flush`](Self::flush) | yes |
/// | [`refuse_unacceptable`](Self::refuse_unacceptable) | no |
#[cfg_attr(
    feature = "dictionary",
    doc = "| [`dictionaries`](Self::dictionaries), [`dictionary`](Self::dictionary) | none |"
)]
#[derive(Clone)]
#[must_use]
pub struct CompressLayerBuilder {
    encodings: Vec<Encoding>,
    preferred: Vec<(String, Vec<Encoding>)>,
    types: Vec<(String, bool)>,
    min_size: u64,
    event_streams: bool,
    when: Option<Arc<When>>,
    levels: Levels,
    entity_tags: EntityTags,
    flush: bool,
    refuse_unacceptable: bool,
    #[cfg(feature = "dictionary")]
    dictionaries: Option<Dictionaries>,
    #[cfg(feature = "dictionary")]
    dictionary_paths: Vec<String>,
}

impl CompressLayerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            encodings: Encoding::enabled().collect(),
            preferred: Vec::new(),
            types: Vec::new(),
            min_size: 1024,
            event_streams: false,
            when: None,
            levels: Levels::dynamic(),
            entity_tags: EntityTags::Suffix,
            flush: true,
            refuse_unacceptable: false,
            #[cfg(feature = "dictionary")]
            dictionaries: None,
            #[cfg(feature = "dictionary")]
            dictionary_paths: Vec::new(),
        }
    }

    /// The codings that are used, the preferred first. What the client prefers comes before that.
    pub fn encodings(mut self, encodings: impl IntoIterator<Item = Encoding>) -> Self {
        self.encodings = encodings.into_iter().collect();
        self
    }

    /// The codings for a media type (`text/html`, or `font/*`), in place of
    /// [`encodings`](Self::encodings). The first that fits counts.
    pub fn encodings_for(
        mut self,
        media_type: impl Into<String>,
        encodings: impl IntoIterator<Item = Encoding>,
    ) -> Self {
        self.preferred.push((media_type.into(), encodings.into_iter().collect()));
        self
    }

    /// The least length of a body that is compressed, in bytes. One of unknown length is compressed,
    /// unless all of it is there at once and is shorter. One that is shorter is compressed for a client
    /// that refuses the plain form, and for no other.
    pub fn min_size(mut self, bytes: u64) -> Self {
        self.min_size = bytes;
        self
    }

    /// Compresses responses of a media type, too: `application/x-mine`, or `font/*`. By default, these
    /// are `text/*`, JSON and XML in all their guises, scripts, WebAssembly, SVG, bitmaps, and fonts
    /// that aren't compressed themselves.
    pub fn compress_type(mut self, media_type: impl Into<String>) -> Self {
        self.types.push((media_type.into(), true));
        self
    }

    /// Leaves responses of a media type alone. Of several words on a type, the last one counts: after
    /// `leave_type("*/*")`, only what is added is compressed.
    pub fn leave_type(mut self, media_type: impl Into<String>) -> Self {
        self.types.push((media_type.into(), false));
        self
    }

    /// Whether `text/event-stream` is compressed. Each event arrives at once if it is, since
    /// [`flush`](Self::flush) sees to it; but proxies on the way that hold back compressed bodies are
    /// more common than others.
    pub fn event_streams(mut self, compress: bool) -> Self {
        self.event_streams = compress;
        self
    }

    /// Which of the responses that would be compressed are: not those with a secret beside what a
    /// client has sent, for example (see [BREACH](crate#secrets-breach)).
    pub fn when(
        mut self,
        compresses: impl Fn(&ResponseHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Arc::new(compresses));
        self
    }

    /// How hard each coding tries. While clients wait, zstd can be at 9 and br at 8 at most.
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// What becomes of the `ETag` of a response that is compressed.
    pub fn entity_tags(mut self, entity_tags: EntityTags) -> Self {
        self.entity_tags = entity_tags;
        self
    }

    /// Whether what has been written is sent on when the body that is compressed has nothing more to
    /// say for now. Without it, a client sees the parts of a stream late; with it, a stream of many
    /// small parts becomes a little longer.
    pub fn flush(mut self, when_pending: bool) -> Self {
        self.flush = when_pending;
        self
    }

    /// Whether a client that accepts neither the plain form of a response nor any of the codings gets
    /// 406 in place of it (RFC 9110 §15.5.7). By then the handler has run, whatever it did. By default
    /// the client gets the response as it is, as §12.4.1 allows: such a field is more often a mistake
    /// than meant.
    pub fn refuse_unacceptable(mut self, refuse: bool) -> Self {
        self.refuse_unacceptable = refuse;
        self
    }

    /// Responses that say `Use-As-Dictionary` and are for everybody become dictionaries, by which later
    /// responses are told to clients that have them ([more](crate#dictionaries)). Clones of
    /// [`Dictionaries`] share them, so one can serve several layers.
    #[cfg(feature = "dictionary")]
    pub fn dictionaries(mut self, dictionaries: Dictionaries) -> Self {
        self.dictionaries = Some(dictionaries);
        self
    }

    /// Says `Use-As-Dictionary` on responses whose path matches, such as `/app/*.js`, where the handler
    /// says nothing of the kind, so that each of them is a dictionary for all of them: name paths whose
    /// versions follow each other. Without [`dictionaries`](Self::dictionaries), the layer has its own.
    #[cfg(feature = "dictionary")]
    pub fn dictionary(mut self, path: impl Into<String>) -> Self {
        self.dictionary_paths.push(path.into());
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// If there is no coding, or one is there twice or its feature isn't enabled; if a media type is
    /// none; if a level is none of its coding, or takes too long for a runtime's thread; or if the path
    /// of a dictionary is none, or no coding is there that has dictionaries.
    pub fn build(self) -> Result<CompressLayer, ConfigError> {
        check_encodings(&self.encodings)?;
        #[cfg(feature = "dictionary")]
        let dictionaries = DictionarySettings::build(
            self.dictionaries,
            self.dictionary_paths,
            self.encodings.iter().chain(self.preferred.iter().flat_map(|(_, own)| own)),
        )?;
        let preferred = self.preferred.into_iter().map(|(media_type, encodings)| {
            check_encodings(&encodings)?;
            Ok((pattern(&media_type)?, encodings))
        });
        let types = self.types.into_iter().map(|(media_type, compress)| {
            let pattern = pattern(&media_type)?;
            Ok((pattern, compress))
        });
        Ok(CompressLayer::new(Policy::new(Settings {
            encodings: self.encodings,
            preferred: preferred.collect::<Result<_, _>>()?,
            types: types.collect::<Result<_, _>>()?,
            min_size: self.min_size,
            event_streams: self.event_streams,
            when: self.when,
            levels: self.levels.check_dynamic()?,
            entity_tags: self.entity_tags,
            flush: self.flush,
            refuse_unacceptable: self.refuse_unacceptable,
            #[cfg(feature = "dictionary")]
            dictionaries,
        })))
    }
}

/// Refuses lists that are empty, or have a coding twice or one that can't be written.
pub(crate) fn check_encodings(encodings: &[Encoding]) -> Result<(), ConfigError> {
    if encodings.is_empty() {
        return Err(ConfigError::new(
            "there is no content coding: name one, or enable one of the features zstd, br, gzip and \
             deflate",
        ));
    }
    for (at, encoding) in encodings.iter().enumerate() {
        if !encoding.is_enabled() {
            return Err(ConfigError::new(format!(
                "{encoding} can't be used: enable the feature `{encoding}`"
            )));
        }
        if encodings.iter().skip(at + 1).any(|other| other == encoding) {
            return Err(ConfigError::new(format!("{encoding} is named twice")));
        }
    }
    Ok(())
}

fn pattern(media_type: &str) -> Result<Pattern, ConfigError> {
    Pattern::parse(media_type).ok_or_else(|| {
        ConfigError::new(format!(
            "{media_type:?} is no media type: write `text/html`, `text/*` or `*/*`, without parameters"
        ))
    })
}

impl fmt::Debug for CompressLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressLayerBuilder")
            .field("encodings", &self.encodings)
            .field("min_size", &self.min_size)
            .field("levels", &self.levels)
            .field("entity_tags", &self.entity_tags)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_not_work_are_refused_with_the_fix() {
        let refused = |builder: CompressLayerBuilder| builder.build().unwrap_err().to_string();
        let builder = CompressLayer::builder;
        assert!(refused(builder().encodings([])).contains("enable one of the features"));
        let first = Encoding::enabled().next().unwrap();
        assert!(refused(builder().encodings([first, first])).contains("named twice"));
        assert!(refused(builder().compress_type("text")).contains("no media type"));
        assert!(refused(builder().encodings_for("text/html; q=1", [first])).contains("parameters"));
        assert!(refused(builder().encodings_for("text/html", [])).contains("no content coding"));
        let levels = Levels::dynamic().with(Encoding::Brotli, 11);
        assert!(refused(builder().levels(levels)).contains("`encode_all`"));
    }
}
