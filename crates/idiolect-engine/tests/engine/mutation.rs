//! The fixtures catch what they are there to catch: with any one setting flipped, parity fails.
//! Each flip below is a bug that a decoder could have; `fixtures/parity/README.md` lists them.
//! Not flipped: the sizes, with which the weights would not load, and the family, a label.

use idiolect_engine::model_config::{Activation, Llama3Scaling, ModelConfig, Norms, Scaling};
use idiolect_model::TrainSettings;

use crate::fixture::FAMILIES;
use crate::parity::{Case, adamw_settings, same_ten_steps};

/// A name, the families whose fixture must notice, and the flip.
type Flip = (&'static str, &'static [&'static str], fn(&mut ModelConfig));

/// A flip of one of the optimiser's settings.
type Setting = fn(&mut TrainSettings);

const ALL: &[&str] = &FAMILIES;
const PLAIN: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "olmo2"];
const WINDOWED: &[&str] = &["mistral", "qwen2", "qwen3", "gemma2", "gemma3"];

const FLIPS: [Flip; 32] = [
    // Same matrices, cut into other heads.
    ("heads of half the width", &["llama"], |f| {
        (f.heads, f.kv_heads, f.head_dim) = (f.heads * 2, f.kv_heads * 2, f.head_dim / 2);
    }),
    ("norm_eps", ALL, |f| f.norm_eps = 1e-6),
    ("rope.theta", ALL, |f| f.rope.theta *= 1.5),
    ("rope.scaling", &["llama", "gemma3"], |f| {
        f.rope.scaling = None
    }),
    ("rope.scaling, the factor of linear", &["gemma3"], |f| {
        f.rope.scaling = Some(Scaling::Linear(2.0))
    }),
    ("local_rope", &["gemma3"], |f| f.local_rope = None),
    ("local_rope.theta", &["gemma3"], |f| {
        f.local_rope.as_mut().unwrap().theta *= 1.5
    }),
    ("local_rope.scaling", &["gemma3"], |f| {
        f.local_rope.as_mut().unwrap().scaling = Some(Scaling::Linear(2.5))
    }),
    (
        "rope and local_rope, each for the other",
        &["gemma3"],
        |f| {
            let local = f.local_rope.replace(f.rope).unwrap();
            f.rope = local;
        },
    ),
    ("qk_norm", &["qwen3", "gemma3", "olmo2"], |f| {
        f.qk_norm = false
    }),
    ("qk_norm_whole", &["olmo2"], |f| f.qk_norm_whole = false),
    ("qk_norm_whole of heads", &["qwen3"], |f| {
        f.qk_norm_whole = true
    }),
    ("qk_norm of a llama", &["llama", "mistral", "gemma2"], |f| {
        f.qk_norm = true
    }),
    ("rope.scaling.factor", &["llama"], |f| {
        scaling(f).factor = 8.0
    }),
    ("rope.scaling.low_frequency_factor", &["llama"], |f| {
        scaling(f).low_frequency_factor = 1.5
    }),
    ("rope.scaling.high_frequency_factor", &["llama"], |f| {
        scaling(f).high_frequency_factor = 3.0
    }),
    (
        "rope.scaling.original_max_position_embeddings",
        &["llama"],
        |f| scaling(f).original_max_position_embeddings = 64.0,
    ),
    ("qkv_bias", &["qwen2"], |f| f.qkv_bias = false),
    ("norm_plus_one", ALL, |f| f.norm_plus_one = !f.norm_plus_one),
    ("norms", &["gemma2", "gemma3", "olmo2"], |f| {
        f.norms = Norms::Before
    }),
    ("norms, before as well", &["olmo2"], |f| {
        f.norms = Norms::BeforeAndAfter
    }),
    ("activation", ALL, |f| {
        f.activation = match f.activation {
            Activation::Silu => Activation::GeluTanh,
            Activation::GeluTanh => Activation::Silu,
        }
    }),
    ("embedding_scale", &["gemma2", "gemma3"], |f| {
        f.embedding_scale = 1.0
    }),
    ("embedding_scale of a llama", PLAIN, |f| {
        f.embedding_scale = (f.hidden as f32).sqrt()
    }),
    ("attention_scale", &["gemma2", "gemma3"], |f| {
        f.attention_scale = (f.head_dim as f32).sqrt().recip()
    }),
    ("attention_scale of a llama", PLAIN, |f| {
        f.attention_scale = ((f.hidden / f.heads) as f32).sqrt().recip();
    }),
    ("attention_softcap", &["gemma2"], |f| {
        f.attention_softcap = None
    }),
    ("final_softcap", &["gemma2", "gemma3"], |f| {
        f.final_softcap = None
    }),
    ("windows, none", WINDOWED, |f| f.windows.fill(None)),
    ("windows, one too wide", WINDOWED, |f| {
        f.windows.iter_mut().flatten().for_each(|w| *w += 1);
    }),
    (
        "windows, other layers",
        &["qwen2", "qwen3", "gemma2", "gemma3"],
        |f| f.windows.rotate_right(1),
    ),
    ("tied", ALL, |f| f.tied = !f.tied),
];

fn scaling(model: &mut ModelConfig) -> &mut Llama3Scaling {
    match model.rope.scaling.as_mut() {
        Some(Scaling::Llama3(scaling)) => scaling,
        other => panic!("{other:?} is not llama3 scaling"),
    }
}

#[test]
fn any_flipped_fact_is_noticed() {
    for (name, families, flip) in FLIPS {
        for family in families {
            match Case::of(family).with_config(flip).check() {
                Ok(()) => panic!("{family}: nothing noticed a flipped `{name}`"),
                Err(found) => println!("{name}, {family}: {found}"),
            }
        }
    }
}

/// A head with its own copy of the embedding computes the same logits: only the gradient differs.
#[test]
fn an_untied_copy_of_the_head_is_noticed_by_the_gradient() {
    let found = Case::of("qwen2")
        .with_config(|f| f.tied = false)
        .check()
        .unwrap_err();
    assert!(
        found.contains("gradient/model.embed_tokens.weight"),
        "{found}"
    );
}

#[test]
fn any_flipped_setting_of_the_optimiser_is_noticed() {
    let flips: [(&str, Setting); 6] = [
        ("lr", |s| s.lr *= 1.01),
        ("beta1", |s| s.betas.0 = 0.89),
        ("beta2", |s| s.betas.1 = 0.96),
        ("epsilon", |s| s.epsilon = 1e-8),
        ("weight_decay", |s| s.weight_decay = 0.0),
        ("max_grad_norm", |s| s.max_grad_norm = 0.0),
    ];
    for family in FAMILIES {
        let case = Case::of(family);
        for (name, flip) in flips {
            let mut settings = adamw_settings(&case);
            flip(&mut settings);
            let found = same_ten_steps(&case, &settings);
            assert!(
                found.is_err(),
                "{family}: nothing noticed a flipped `{name}`"
            );
        }
    }
}
