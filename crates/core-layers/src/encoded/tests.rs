//! Encodings against those of GGML's Python package, and matrices as rows of blocks.

use safetensors::SafeTensors;

use super::*;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/fixtures/gpt/encodings.safetensors");

fn singles(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&it| f32::from_le_bytes(it)).collect()
}

#[test]
fn blocks_mean_what_ggml_says() {
    let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
    for name in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"] {
        let blocks = fixture.tensor(&format!("{name}.blocks")).unwrap();
        let values = fixture.tensor(&format!("{name}.values")).unwrap();
        let encoding = Encoding::of_name(name).unwrap();
        let [rows, columns] = values.shape() else { panic!("a matrix") };
        let bytes = Bytes::from(blocks.data().to_vec());
        let matrix = Encoded::new(*rows, *columns, encoding, bytes).unwrap();
        assert_eq!(matrix.to_f32(), singles(values.data()), "{name}");
    }
}

#[test]
fn numbers_become_the_blocks_that_ggml_makes() {
    let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
    let source = fixture.tensor("source").unwrap();
    let [rows, columns] = source.shape() else { panic!("a matrix") };
    let matrix = Encoded::from_f32(*rows, *columns, &singles(source.data()));
    for name in ["q8_0", "q4_0", "q4_1", "bf16"] {
        let wanted = fixture.tensor(&format!("{name}.encoded")).unwrap();
        let found = matrix.encode(Encoding::of_name(name).unwrap()).unwrap();
        assert_eq!(found.bytes(), wanted.data(), "{name}");
    }
}

#[test]
fn rows_move_with_their_blocks() {
    let bytes: Vec<u8> = (0..3 * 34).collect();
    let matrix = Encoded::new(3, 32, Encoding::Q8_0, bytes.into()).unwrap();
    let moved = matrix.with_rows(&[2, 0]);
    assert_eq!((moved.rows(), moved.row(0), moved.row(1)), (2, matrix.row(2), matrix.row(0)));
    let part = matrix.rows_at(1..3);
    assert_eq!((part.rows(), part.row(0), part.row(1)), (2, matrix.row(1), matrix.row(2)));
    assert_eq!(part.bytes().as_ptr(), matrix.row(1).as_ptr(), "without a copy");
}

#[test]
fn bytes_that_are_not_the_matrix_s_are_refused() {
    let bytes = |len: usize| Bytes::from(vec![0; len]);
    assert!(Encoded::new(2, 32, Encoding::Q4_0, bytes(36)).is_some());
    assert!(Encoded::new(2, 32, Encoding::Q4_0, bytes(35)).is_none());
    assert!(Encoded::new(2, 33, Encoding::Q4_0, bytes(36)).is_none());
    assert!(Encoded::new(usize::MAX, 32, Encoding::Q4_0, bytes(36)).is_none());
    assert!(Encoded::new(1, usize::MAX, Encoding::F32, bytes(36)).is_none());
}

#[test]
fn every_encoding_has_a_name_of_its_own() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::of_name(encoding.name()), Some(encoding));
    }
}
