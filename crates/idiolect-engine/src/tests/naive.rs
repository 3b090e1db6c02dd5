//! The decoder against a naive one in f64.

use super::*;

/// The decoder in f64, one token and one number at a time.
struct Naive<'a> {
    config: &'a ModelConfig,
    values: Vec<f64>,
    model: &'a Decoder,
}

impl<'a> Naive<'a> {
    fn new(model: &'a Decoder) -> Self {
        let values = model
            .parameters()
            .values()
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        Self {
            config: model.config(),
            values,
            model,
        }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.values[self
            .model
            .parameters()
            .layout()
            .tensor(name)
            .unwrap()
            .range
            .clone()]
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let r = 1.0 / (square + f64::from(self.config.norm_eps)).sqrt();
        let one = f64::from(u8::from(self.config.norm_plus_one));
        x.iter()
            .zip(self.get(name))
            .map(|(v, g)| v * r * (one + g))
            .collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.get(name)
            .chunks(x.len())
            .map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect()
    }

    /// Each head normalised, or all at once, where the family does that.
    fn normed(&self, name: &str, heads: Vec<f64>) -> Vec<f64> {
        if !self.config.qk_norm {
            return heads;
        }
        let part = if self.config.qk_norm_whole {
            heads.len()
        } else {
            self.config.head_dim
        };
        let heads = heads.chunks(part);
        heads.flat_map(|head| self.norm(name, head)).collect()
    }

    fn rotated(&self, layer: usize, heads: &[f64], position: usize) -> Vec<f64> {
        let d = self.config.head_dim;
        let local = self.config.windows[layer].and(self.config.local_rope);
        let frequencies = local.unwrap_or(self.config.rope).frequencies(d);
        let mut out = heads.to_vec();
        for head in out.chunks_mut(d) {
            for i in 0..d / 2 {
                let (s, c) = (position as f64 * frequencies[i]).sin_cos();
                let (a, b) = (head[i], head[i + d / 2]);
                head[i] = a * c - b * s;
                head[i + d / 2] = b * c + a * s;
            }
        }
        out
    }

    fn cap(z: f64, c: Option<f32>) -> f64 {
        c.map_or(z, |c| f64::from(c) * (z / f64::from(c)).tanh())
    }

    fn attention(&self, layer: usize, qkv: &[[Vec<f64>; 3]]) -> Vec<Vec<f64>> {
        let f = self.config;
        let d = f.head_dim;
        let mut outs = Vec::new();
        for t in 0..qkv.len() {
            let mut out = vec![0.0; f.heads * d];
            for h in 0..f.heads {
                let kv = h / (f.heads / f.kv_heads) * d;
                let seen = (0..=t).filter(|s| f.windows[layer].is_none_or(|w| t - s < w));
                let e: Vec<(usize, f64)> = seen
                    .map(|s| {
                        let dot: f64 = (0..d)
                            .map(|i| qkv[t][0][h * d + i] * qkv[s][1][kv + i])
                            .sum();
                        (
                            s,
                            Self::cap(dot * f64::from(f.attention_scale), f.attention_softcap)
                                .exp(),
                        )
                    })
                    .collect();
                let sum: f64 = e.iter().map(|e| e.1).sum();
                for i in 0..d {
                    out[h * d + i] = e.iter().map(|(s, e)| e / sum * qkv[*s][2][kv + i]).sum();
                }
            }
            outs.push(out);
        }
        outs
    }

    fn layer(&self, layer: usize, xs: &mut [Vec<f64>]) {
        let f = self.config;
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let bias = |letter: &str, y: Vec<f64>| -> Vec<f64> {
            if !f.qkv_bias {
                return y;
            }
            let b = self.get(&format!(
                "model.layers.{layer}.self_attn.{letter}_proj.bias"
            ));
            y.iter().zip(b).map(|(y, b)| y + b).collect()
        };
        let (before, after) = (f.norms.before(), f.norms.after());
        let read = |part: &str, x: &[f64]| {
            if before {
                self.norm(&name(part), x)
            } else {
                x.to_vec()
            }
        };
        let qkv: Vec<[Vec<f64>; 3]> = xs
            .iter()
            .enumerate()
            .map(|(t, x)| {
                let h = read("input_layernorm", x);
                let of = |l: &str| bias(l, self.linear(&name(&format!("self_attn.{l}_proj")), &h));
                let turned = |l: &str| {
                    let heads = self.normed(&name(&format!("self_attn.{l}_norm")), of(l));
                    self.rotated(layer, &heads, t)
                };
                [turned("q"), turned("k"), of("v")]
            })
            .collect();
        for (x, a) in xs.iter_mut().zip(self.attention(layer, &qkv)) {
            let mut y = self.linear(&name("self_attn.o_proj"), &a);
            if after {
                y = self.norm(&name("post_attention_layernorm"), &y);
            }
            x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
            let mlp_norm = if after {
                "pre_feedforward_layernorm"
            } else {
                "post_attention_layernorm"
            };
            let h = read(mlp_norm, x);
            let (gate, up) = (
                self.linear(&name("mlp.gate_proj"), &h),
                self.linear(&name("mlp.up_proj"), &h),
            );
            let act: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| self.activation(*g) * u)
                .collect();
            let mut y = self.linear(&name("mlp.down_proj"), &act);
            if after {
                y = self.norm(&name("post_feedforward_layernorm"), &y);
            }
            x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
        }
    }

    fn activation(&self, x: f64) -> f64 {
        match self.config.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
        }
    }

    fn logits(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config.hidden;
        let table = self.get("model.embed_tokens.weight");
        let scale = f64::from(self.config.embedding_scale);
        let mut xs: Vec<Vec<f64>> = ids
            .iter()
            .map(|&id| {
                table[id as usize * c..][..c]
                    .iter()
                    .map(|v| v * scale)
                    .collect()
            })
            .collect();
        (0..self.config.layers).for_each(|layer| self.layer(layer, &mut xs));
        let head = if self.config.tied {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        xs.iter()
            .map(|x| {
                let z = self.linear(head, &self.norm("model.norm.weight", x));
                z.into_iter()
                    .map(|z| Self::cap(z, self.config.final_softcap))
                    .collect()
            })
            .collect()
    }

    fn loss(&self, rows: &[TokenRow]) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for row in rows {
            let logits = self.logits(&row.ids);
            for t in row.completion_start..row.ids.len() {
                let z = &logits[t - 1];
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                sum += f64::from(row.weight) * (total.ln() - z[row.ids[t] as usize]);
                weight += f64::from(row.weight);
            }
        }
        sum / weight
    }
}

#[test]
fn logits_loss_and_every_gradient_agree_with_a_naive_decoder_in_double_precision() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let mut naive = Naive::new(&model);
        let ids = row(2, 40, 1, 1.0).ids;
        let want: Vec<f32> = naive
            .logits(&ids)
            .concat()
            .iter()
            .map(|z| *z as f32)
            .collect();
        close(
            &format!("{family:?} logits"),
            &logits(&model, &ids, &threads(1)),
            &want,
            1e-5,
        );

        let (loss, gradients) = loss_and_gradients(&model, &rows(), &threads(1));
        let want = naive.loss(&rows());
        assert!(
            (loss - want).abs() < 1e-6 * want,
            "{family:?}: {loss} {want}"
        );
        for (tensor, gradient) in gradients.iter() {
            assert!(
                gradient.iter().any(|g| *g != 0.0),
                "{} got no gradient",
                tensor.name
            );
            let n = gradient.len();
            let picked = [0, 1, n / 3, n / 2, n - 1];
            let numeric: Vec<f32> = picked
                .iter()
                .map(|i| {
                    let at = tensor.range.start + i;
                    let start = naive.values[at];
                    let mut loss = |value: f64| {
                        naive.values[at] = value;
                        naive.loss(&rows())
                    };
                    let slope = (loss(start + 1e-5) - loss(start - 1e-5)) / 2e-5;
                    naive.values[at] = start;
                    slope as f32
                })
                .collect();
            let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for (i, numeric) in picked.into_iter().zip(numeric) {
                let error = (gradient[i] - numeric).abs();
                assert!(
                    error < 1e-5 * largest + 1e-8,
                    "{family:?} {}[{i}]: {} {numeric}",
                    tensor.name,
                    gradient[i]
                );
            }
        }
    }
}
