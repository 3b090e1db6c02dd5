//! The position embedding of a config, in both spellings.
//!
//! Transformers 4 writes `rope_theta` and `rope_scaling` (for Gemma 3 also
//! `rope_local_base_freq`), transformers 5 `rope_parameters`; for Gemma 3 these are nested by the
//! type of layer.

use serde_json::{Map, Value};

use super::ConfigError;
use super::fields::Fields;
use crate::model_config::{Family, Llama3Scaling, Rope, Scaling};

/// The position embedding, and that of the layers with a window where it is another.
pub(super) fn read_ropes(
    fields: &Fields<'_>,
    family: Family,
) -> Result<(Rope, Option<Rope>), ConfigError> {
    let theta = fields.number("rope_theta")?;
    only_whole(fields)?;
    let older = fields.object("rope_scaling")?.map(|o| ("rope_scaling", o));
    let newer = fields.object("rope_parameters")?;
    if newer.is_some() && older.is_some() {
        return Err(fields.fault("rope_scaling", "`rope_parameters` is there too; keep one"));
    }
    if family != Family::Gemma3 {
        let written = older.or(newer.map(|o| ("rope_parameters", o)));
        return Ok((read_rope(fields, written, theta, 10_000.0)?, None));
    }
    let local_theta = fields.number("rope_local_base_freq")?;
    let (mut global, mut local) = (older, None);
    if let Some(newer) = newer {
        let nested = fields.nested(newer, "rope_parameters");
        let named = |name, written: Option<_>| written.map(|o| (name, o));
        global = named(
            "rope_parameters.full_attention",
            nested.object("full_attention")?,
        );
        local = named(
            "rope_parameters.sliding_attention",
            nested.object("sliding_attention")?,
        );
        nested.refuse_rest()?;
    }
    let global = read_rope(fields, global, theta, 1_000_000.0)?;
    let local = read_rope(fields, local, local_theta, 10_000.0)?;
    Ok((global, Some(local).filter(|local| *local != global)))
}

/// One position embedding; `theta` is the value outside the object, `usual` what transformers
/// takes where none does.
fn read_rope<'a>(
    fields: &Fields<'a>,
    written: Option<(&'a str, &'a Map<String, Value>)>,
    theta: Option<f64>,
    usual: f64,
) -> Result<Rope, ConfigError> {
    let Some((name, parameters)) = written else {
        return Ok(Rope {
            theta: theta.unwrap_or(usual),
            scaling: None,
        });
    };
    let inner = fields.nested(parameters, name);
    let theta = inner.number("rope_theta")?.or(theta).unwrap_or(usual);
    // Files before transformers 4.43 have `type`.
    let (older_kind, newer_kind) = (inner.text("type")?, inner.text("rope_type")?);
    let named_by = if newer_kind.is_some() || older_kind.is_none() {
        "rope_type"
    } else {
        "type"
    };
    let kind = newer_kind.or(older_kind);
    let scaling = match kind.as_deref() {
        None | Some("default") => None,
        Some("linear") => Some(Scaling::Linear(inner.needed("factor")?)),
        Some("llama3") => Some(Scaling::Llama3(Llama3Scaling {
            factor: inner.needed("factor")?,
            low_frequency_factor: inner.needed("low_freq_factor")?,
            high_frequency_factor: inner.needed("high_freq_factor")?,
            original_max_position_embeddings: inner.needed("original_max_position_embeddings")?,
        })),
        Some(_) => {
            return Err(inner.fault(named_by, "supported are default, linear and llama3"));
        }
    };
    if let Some(Scaling::Llama3(s)) = scaling
        && s.high_frequency_factor <= s.low_frequency_factor
    {
        return Err(inner.fault("high_freq_factor", "expected more than `low_freq_factor`"));
    }
    only_whole(&inner)?;
    inner.refuse_rest()?;
    Ok(Rope { theta, scaling })
}

/// Heads that are rotated in part are no family's here.
fn only_whole(fields: &Fields<'_>) -> Result<(), ConfigError> {
    let fraction = fields.number("partial_rotary_factor")?;
    if fraction.is_some_and(|fraction| fraction.total_cmp(&1.0).is_ne()) {
        return Err(fields.fault("partial_rotary_factor", "only 1 is supported"));
    }
    Ok(())
}
