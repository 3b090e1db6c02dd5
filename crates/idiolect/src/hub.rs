//! Models and data files of the hub, with the progress of their downloads.

use std::ops::ControlFlow;
use std::path::PathBuf;

use idiolect_remote::hub::{Hub, HubError};

use crate::interrupt::Stop;
use crate::progress::{Meter, Progress};
use crate::stage::StageError;

/// Downloads below this are over before anybody looks.
const WORTH_A_NOTE: u64 = 10 << 20;

/// The directory of a whole model.
pub fn model(name: &str, progress: &Progress, stop: &Stop) -> Result<PathBuf, StageError> {
    let hub = Hub::from_env();
    fetch(name, progress, stop, |each| hub.model_with(name, each))
}

/// The directory of a model without its weights.
pub fn text_side(name: &str) -> Result<PathBuf, StageError> {
    Hub::from_env().text_side(name).map_err(failed)
}

/// What a file of a data set on the hub is named with: `hf:datasets/OWNER/NAME[@REV]/PATH`.
const DATASET: &str = "hf:datasets/";

/// Whether a name is that of a file on the hub.
pub fn is_dataset_file(name: &str) -> bool {
    name.starts_with(DATASET)
}

/// A file of a data set, `hf:datasets/OWNER/NAME[@REV]/PATH`, downloaded where it is not in the
/// cache.
pub fn dataset_file(name: &str, progress: &Progress, stop: &Stop) -> Result<PathBuf, StageError> {
    let hub = Hub::from_env();
    let name = name.strip_prefix(DATASET).unwrap_or(name);
    fetch(name, progress, stop, |each| {
        hub.dataset_file_with(name, each)
    })
}

/// Bytes of a model that are to be downloaded; `None` where the hub cannot be asked.
pub fn download_bytes(name: &str) -> Option<u64> {
    let plan = Hub::from_env().plan(name).ok()?;
    Some(plan.missing_bytes())
}

/// Downloads, with a meter from where something is missing on.
fn fetch(
    name: &str,
    progress: &Progress,
    stop: &Stop,
    download: impl FnOnce(&mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<PathBuf, HubError>,
) -> Result<PathBuf, StageError> {
    let mut meter: Option<Meter<'_>> = None;
    let found = download(&mut |done, total| {
        if meter.is_none() && done < total {
            if total - done >= WORTH_A_NOTE {
                let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
                let text = format!(
                    "{name}: {} of {} MB are to be downloaded",
                    megabytes(total - done),
                    megabytes(total)
                );
                progress.note("download", &text);
            }
            meter = Some(progress.begin("download", "bytes", Some(total), done));
        }
        if let Some(meter) = &mut meter {
            meter.at(done);
        }
        match stop.requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    found.map_err(failed)
}

fn failed(error: HubError) -> StageError {
    let hint = match &error {
        HubError::Stopped => return StageError::Interrupted,
        HubError::Offline(_) => {
            "unset HF_HUB_OFFLINE, or download it before: the cache is that of huggingface_hub"
        }
        HubError::Reference { .. } => {
            "a model is hf:OWNER/NAME[@REV], a data file hf:datasets/OWNER/NAME[@REV]/PATH"
        }
        HubError::Unreachable(_) => {
            "what came is kept: the same command continues; HF_ENDPOINT names another hub"
        }
        HubError::NotFound { .. } => {
            "look the name up on the hub; a private or gated one needs HF_TOKEN"
        }
        _ => "",
    };
    StageError::failed(error.to_string(), hint)
}
