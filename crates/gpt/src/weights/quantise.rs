//! Weights in fewer bits.

use anyhow::{Context as _, Result, ensure};
use core_layers::encoded::{Encoded, Encoding};

use super::{Weights, is_vector};

/// The weights with matrices in the encoding `to` and tables of tokens and positions in the 8 bits of its kind; vectors
/// are f32, and matrices whose rows do not fill whole blocks bf16.
///
/// # Errors
/// One line on a weight that is not finite, on an encoding that is only read, or where no matrix could be quantised.
pub fn quantise(weights: &Weights, to: Encoding) -> Result<Weights> {
    let tables =
        if matches!(to, Encoding::Int8 | Encoding::Int4) { Encoding::Int8 } else { Encoding::Q8_0 };
    let mut quantised = Weights::default();
    let mut count = 0;
    for (name, matrix) in &weights.0 {
        ensure_finite(name, matrix)?;
        let wanted = match name.as_str() {
            _ if is_vector(name) => Encoding::F32,
            "embedding.weight" | "position.weight" | "head.weight" => tables,
            _ => to,
        };
        let (of_block, _) = wanted.block();
        let fits = matrix.columns() % of_block == 0;
        let encoded = matrix.encode(if fits { wanted } else { Encoding::Bf16 });
        let encoded = encoded.with_context(|| format!("{to} is only read, not written"))?;
        count += usize::from(fits && wanted == to);
        quantised.0.insert(name.clone(), encoded);
    }
    let (of_block, _) = to.block();
    ensure!(
        count > 0,
        "no matrix has rows of a multiple of {of_block} values, as blocks of {to} need"
    );
    Ok(quantised)
}

fn ensure_finite(name: &str, matrix: &Encoded) -> Result<()> {
    let mut values = vec![0.; matrix.columns()];
    for row in 0..matrix.rows() {
        matrix.decode_row(row, &mut values);
        let bad = values.iter().find(|it| !it.is_finite());
        ensure!(
            bad.is_none(),
            "tensor {name:?} holds {} in row {row}, but must be finite",
            bad.unwrap_or(&0.)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::fixture;

    #[test]
    fn matrices_tables_and_vectors_have_encodings_of_their_own() {
        let model = fixture("gguf-k/model.gguf");
        let encodings = |to| {
            let weights = quantise(&model.weights, to).unwrap();
            let of = |name: &str| weights.of(name).encoding();
            let layer = |part: &str| of(&format!("layers.1.{part}.weight"));
            (
                of("embedding.weight"),
                layer("attention.key"),
                layer("attention.output"),
                of("norm.weight"),
            )
        };
        let (f32, bf16) = (Encoding::F32, Encoding::Bf16);
        assert_eq!(encodings(Encoding::Int4), (Encoding::Int8, Encoding::Int4, bf16, f32));
        assert_eq!(
            encodings(Encoding::Q4_0),
            (Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_0, f32)
        );
    }

    #[test]
    fn what_cannot_be_quantised_is_refused_in_one_line() {
        let mut model = fixture("gguf-k/model.gguf");
        let line = quantise(&model.weights, Encoding::Q6K).unwrap_err().to_string();
        assert_eq!(line, "q6_k is only read, not written");
        let narrow = fixture("llama-grouped");
        let line = quantise(&narrow.weights, Encoding::Int8).unwrap_err().to_string();
        assert_eq!(line, "no matrix has rows of a multiple of 64 values, as blocks of int8 need");
        let mut values = model.weights.of("norm.weight").to_f32();
        values[7] = f32::NAN;
        model.weights.0.insert("norm.weight".into(), Encoded::from_f32(1, 256, &values));
        let line = quantise(&model.weights, Encoding::Int8).unwrap_err().to_string();
        assert_eq!(line, "tensor \"norm.weight\" holds NaN in row 0, but must be finite");
    }
}
