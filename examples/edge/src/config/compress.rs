//! `[compress]`, and what routes say otherwise: which responses are compressed, and how.

use std::thread::available_parallelism;

use bytesize::ByteSize;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use tower_keep::cache::CompressedForms;
use tower_keep::compress::field::has_member;
use tower_keep::compress::{
    CompressLayer, CompressLayerBuilder, ConfigError, Encoding, EntityTags, Levels, ResponseHead,
};

use super::problem::Problems;
use super::table::{Table, Value};

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Compress {
    encodings: Vec<Encoding>,
    encodings_for: Vec<(String, Vec<Encoding>)>,
    min_size: u64,
    types: Vec<String>,
    leave_types: Vec<String>,
    event_streams: bool,
    /// Whether there are secrets beside what clients send, so that what is one user's is left as it is.
    pub(crate) secrets: bool,
    levels: Levels,
    entity_tags: EntityTags,
    flush: bool,
    refuse_unacceptable: bool,
    dense_levels: Levels,
    dense_up_to: usize,
    at_once: usize,
}

impl Default for Compress {
    fn default() -> Self {
        Self {
            encodings: Encoding::ALL.to_vec(),
            encodings_for: Vec::new(),
            min_size: 1024,
            types: Vec::new(),
            leave_types: Vec::new(),
            event_streams: false,
            secrets: false,
            levels: Levels::dynamic(),
            entity_tags: EntityTags::Suffix,
            flush: true,
            refuse_unacceptable: false,
            dense_levels: Levels::stored(),
            dense_up_to: 1 << 20,
            at_once: available_parallelism().map_or(1, usize::from).div_ceil(2),
        }
    }
}

impl Compress {
    /// None, unless the file has the table.
    pub(super) fn read(file: &Table<'_>) -> Option<Self> {
        file.table("compress").map(|table| Self::read_over(&table, &Self::default()))
    }

    /// What a route says: nothing, whether, or in which way other than `standard`.
    pub(super) fn read_route(route: &Table<'_>, standard: Option<&Self>) -> Option<Self> {
        let Some(value) = route.value("compress") else { return standard.cloned() };
        match value.get_ref() {
            toml::de::DeValue::Boolean(false) => None,
            toml::de::DeValue::Boolean(true) => Some(standard.cloned().unwrap_or_default()),
            toml::de::DeValue::Table(_) => {
                let table = route.sub(route.path("compress"), value.span(), value)?;
                Some(Self::read_over(&table, &standard.cloned().unwrap_or_default()))
            }
            _ => {
                wrong(value, &route.path("compress"), route.problems());
                None
            }
        }
    }

    fn read_over(table: &Table<'_>, standard: &Self) -> Self {
        let tags = [("suffix", EntityTags::Suffix), ("weaken", EntityTags::Weaken)];
        let it = standard.clone();
        let min_size = table.get::<ByteSize>("min_size").map_or(it.min_size, |it| it.as_u64());
        let dense_up_to = table.get::<ByteSize>("dense_up_to").map(|it| it.as_u64());
        let mut encodings_for = it.encodings_for;
        if table.value("encodings_for").is_some() {
            let given = table.pairs::<Vec<Encoding>>("encodings_for");
            encodings_for = given.into_iter().map(|(name, _, it)| (name.to_owned(), it)).collect();
            // The first that fits counts, so one type is before all of a kind.
            encodings_for.sort_by_key(|(name, _)| name.matches('*').count());
        }
        let compress = Self {
            encodings: table.or("encodings", it.encodings),
            encodings_for,
            min_size,
            types: table.or("compress_types", it.types),
            leave_types: table.or("leave_types", it.leave_types),
            event_streams: table.or("event_streams", it.event_streams),
            secrets: table.or("secrets", it.secrets),
            levels: levels(table, "levels", it.levels),
            entity_tags: table.choice("entity_tags", it.entity_tags, &tags),
            flush: table.or("flush", it.flush),
            refuse_unacceptable: table.or("refuse_unacceptable", it.refuse_unacceptable),
            dense_levels: levels(table, "dense_levels", it.dense_levels),
            dense_up_to: dense_up_to
                .map_or(it.dense_up_to, |it| usize::try_from(it).unwrap_or(usize::MAX)),
            at_once: table.within("at_once", it.at_once, 1..=usize::MAX),
        };
        compress.check(table);
        compress
    }

    /// Each setting is tried by itself, so that it is known which one can't work.
    fn check(&self, table: &Table<'_>) {
        let trials: [(_, CompressLayerBuilder); 5] = [
            ("encodings", CompressLayer::builder().encodings(self.encodings.clone())),
            ("encodings_for", with_encodings_for(CompressLayer::builder(), &self.encodings_for)),
            ("compress_types", with_types(CompressLayer::builder(), &self.types, true)),
            ("leave_types", with_types(CompressLayer::builder(), &self.leave_types, false)),
            ("levels", CompressLayer::builder().levels(self.levels)),
        ];
        // What is taken over from elsewhere was told there.
        for (key, trial) in trials.into_iter().filter(|(key, _)| table.value(key).is_some()) {
            if let Err(why) = trial.build() {
                let why = why.to_string();
                table.refuse(key, why.trim_start_matches("compress configuration: "));
            }
        }
    }

    /// The layer for what isn't stored, or not yet in the form that is asked for.
    pub(crate) fn layer(&self) -> Result<CompressLayer, ConfigError> {
        let layer = CompressLayer::builder()
            .encodings(self.encodings.iter().copied())
            .min_size(self.min_size)
            .event_streams(self.event_streams)
            .levels(self.levels)
            .entity_tags(self.entity_tags)
            .flush(self.flush)
            .refuse_unacceptable(self.refuse_unacceptable);
        let layer = with_encodings_for(layer, &self.encodings_for);
        let layer = with_types(layer, &self.leave_types, false);
        let layer = with_types(layer, &self.types, true);
        let layer = if self.secrets { layer.when(is_for_many) } else { layer };
        layer.build()
    }

    /// The same of what is stored.
    pub(crate) fn forms(&self) -> Result<CompressedForms, ConfigError> {
        Ok(CompressedForms::from(&self.layer()?)
            .dense_levels(self.dense_levels)
            .dense_up_to(self.dense_up_to)
            .at_once(self.at_once))
    }
}

/// As far as a response says. What its request says is the outbound's to look at.
fn is_for_many(response: &ResponseHead<'_>) -> bool {
    let headers = response.headers();
    let is_for_one =
        ["private", "no-store"].iter().any(|it| has_member(headers, &CACHE_CONTROL, it));
    !is_for_one && !headers.contains_key(SET_COOKIE)
}

fn wrong(value: &Value<'_>, path: &str, problems: &Problems) {
    let expected = "true, false, or a table such as { secrets = true }";
    super::value::wrong(value, path, expected, problems);
}

fn with_encodings_for(
    layer: CompressLayerBuilder,
    given: &[(String, Vec<Encoding>)],
) -> CompressLayerBuilder {
    given.iter().fold(layer, |layer, (media_type, encodings)| {
        layer.encodings_for(media_type, encodings.iter().copied())
    })
}

fn with_types(
    layer: CompressLayerBuilder,
    types: &[String],
    is_compressed: bool,
) -> CompressLayerBuilder {
    types.iter().fold(layer, |layer, media_type| {
        if is_compressed { layer.compress_type(media_type) } else { layer.leave_type(media_type) }
    })
}

/// A level for some codings, in place of those of `standard`.
fn levels(table: &Table<'_>, key: &'static str, standard: Levels) -> Levels {
    let Some(table) = table.table(key) else { return standard };
    Encoding::ALL.into_iter().fold(standard, |levels, encoding| {
        levels.with(encoding, table.within(encoding.name(), levels.of(encoding), encoding.levels()))
    })
}
