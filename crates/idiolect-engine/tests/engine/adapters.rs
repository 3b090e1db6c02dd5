//! Adapters that PEFT wrote and what it computes with them: `fixtures/parity/FAMILY-lora`.

use idiolect_engine::adapter::Adapter;
use idiolect_engine::backward::adapter_gradients;
use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::forward::logits;
use idiolect_engine::peft;
use idiolect_engine::threads::Threads;
use idiolect_model::{Lora, TrainSettings};

use crate::agree::{number, relatively};
use crate::fixture::{Expected, path};
use crate::parity::Case;
use crate::subject;

const CASES: [&str; 3] = ["llama", "qwen3", "gemma2"];

/// A model with its adapter and what is expected of them.
struct Adapted {
    model: Decoder,
    expected: Expected,
    base: Case,
}

impl Adapted {
    fn of(family: &str) -> Self {
        Self::with(family, |_| {})
    }

    /// The adapter as in its files, but for a change of its settings.
    fn with(family: &str, change: impl Fn(&mut Lora)) -> Self {
        let base = Case::of(family);
        let dir = path(&format!("parity/{family}-lora"));
        let config = peft::read_config(&dir).unwrap();
        let model = base.decoder.config();
        let (read, _) = peft::read(&dir, &config, model).unwrap();
        let mut settings = config.lora;
        change(&mut settings);
        let mut adapter = Adapter::zeros(model, settings).unwrap();
        adapter.values_mut().copy_from_slice(read.values());
        Self {
            model: base.decoder.clone().with_adapter(adapter),
            expected: Expected::of(&format!("{family}-lora")),
            base,
        }
    }

    fn same_tensors(&self, prefix: &str, got: &Adapter) -> Result<(), String> {
        let names = self.expected.names(prefix);
        assert_eq!(names.len(), got.tensors().len(), "every tensor is expected");
        for name in names {
            let values = got
                .get(&name)
                .ok_or_else(|| format!("there is no `{name}`"))?;
            let full = format!("{prefix}{name}");
            relatively(&full, values, &self.expected.f32(&full))?;
        }
        Ok(())
    }

    fn same_logits(&self, model: &Decoder) -> Result<(), String> {
        let threads = Threads::single();
        let rows = self.base.rows.iter();
        let got: Vec<f32> = rows
            .flat_map(|row| logits(model, &row.ids, &threads))
            .collect();
        relatively("logits", &got, &self.expected.f32("logits"))
    }

    fn same_gradients(&self) -> Result<(), String> {
        let threads = Threads::single();
        let (loss, gradients) = adapter_gradients(&self.model, &self.base.rows, &threads).unwrap();
        number("loss", loss, self.expected.f64("loss")[0])?;
        self.same_tensors("gradient/", &gradients)
    }

    fn same_ten_steps(&self) -> Result<(), String> {
        let s = self.expected.f64("adamw/settings");
        let settings = TrainSettings {
            lr: s[0],
            betas: (s[1], s[2]),
            epsilon: s[3],
            weight_decay: s[4],
            max_grad_norm: s[5],
            ..subject::settings(3)
        };
        let step = |rows: &[usize]| rows.iter().map(|&r| self.base.rows[r].clone()).collect();
        let rows = self.base.expected.usize("adamw/rows");
        let steps: Vec<Vec<TokenRow>> = rows.chunks(3).map(step).collect();
        let mut model = self.model.clone();
        let trained = subject::train(&mut model, &steps, &settings);
        let losses = self.expected.f64("adamw/loss");
        let norms = self.expected.f64("adamw/gradient_norm");
        assert_eq!((trained.len(), losses.len()), (10, 10));
        for (i, (loss, norm)) in trained.into_iter().enumerate() {
            number(&format!("loss of step {}", i + 1), loss, losses[i])?;
            number(&format!("gradient norm of step {}", i + 1), norm, norms[i])?;
        }
        self.same_tensors("adamw/final/", model.adapter().unwrap())
    }
}

#[test]
fn adapters_give_pefts_logits_loss_and_every_gradient() {
    for family in CASES {
        let case = Adapted::of(family);
        case.same_logits(&case.model)
            .and_then(|()| case.same_gradients())
            .unwrap_or_else(|e| panic!("{family}: {e}"));
    }
}

#[test]
fn a_merged_adapter_gives_pefts_logits() {
    for family in CASES {
        let case = Adapted::of(family);
        let mut merged = case.model.clone();
        merged.merge();
        case.same_logits(&merged)
            .unwrap_or_else(|e| panic!("{family}: {e}"));
    }
}

#[test]
fn ten_adamw_steps_of_adapters_are_those_of_pytorch() {
    for family in CASES {
        Adapted::of(family)
            .same_ten_steps()
            .unwrap_or_else(|e| panic!("{family}: {e}"));
    }
}

#[test]
fn a_flipped_scale_is_noticed() {
    type Flip = (&'static str, fn(&mut Lora));
    let flips: [Flip; 2] = [
        ("alpha", |l| l.alpha *= 1.01),
        ("rslora", |l| l.rslora = !l.rslora),
    ];
    for (name, flip) in flips {
        for family in CASES {
            let case = Adapted::with(family, flip);
            let found = case.same_logits(&case.model);
            assert!(
                found.is_err(),
                "{family}: nothing noticed a flipped `{name}`"
            );
        }
    }
}
