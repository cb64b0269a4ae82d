//! Which bin a value lies in, and which value speaks for a bin: from the bits of the f64 and two tables.
//!
//! Every power of two is cut into 35 bins whose borders are 2^(i/35), so that a bin is γ = 2^(1/35) wide and its
//! representative 2·lo·hi / (lo + hi) is at most (γ − 1) / (γ + 1) = 0.009902 off, relatively.
//!
//! The 8,191 smallest subnormals are their own bins: they are so coarse that no f64 lies within 1 % of all that a bin of
//! that width would hold (60 and 61 units of 2^-1074, say).

/// Bins per power of two.
const PER_OCTAVE: i32 = 35;
/// From this many units of 2^-1074 (which are 2^[`FULL_EXPONENT`]) bins are γ wide. Rounding a representative to half a unit
/// then adds 0.00006, which keeps the error under 0.01.
const FULL_UNITS: u64 = 1 << 13;
const FULL_EXPONENT: i32 = -1074 + 13;
/// The lowest bin that is γ wide; below it a bin is one subnormal.
const FULL: i32 = FULL_EXPONENT * PER_OCTAVE;
/// The bin of the least positive f64.
pub(super) const LOWEST: i32 = FULL - FULL_UNITS as i32 + 1;
/// The bin of the greatest f64.
pub(super) const HIGHEST: i32 = 1024 * PER_OCTAVE - 1;

const FRACTION_BITS: u32 = 52;
const ONE: u64 = 1 << FRACTION_BITS;

/// The fraction bits of 2^(i/35), rounded to nearest: where bin i of an octave begins. The last is where the next begins.
const BOUNDS: [u64; 36] = [
    0x0_0000_0000_0000,
    0x0_51ed_3525_4d7b,
    0x0_a57d_e9c1_6bc7,
    0x0_faba_81d4_e5df,
    0x1_51ab_8c56_eea2,
    0x1_aa59_c411_5e7d,
    0x2_04ce_1081_1781,
    0x2_6111_86ba_e675,
    0x2_bf2d_6a54_f7da,
    0x3_1f2b_2e54_f85d,
    0x3_8114_7622_f886,
    0x3_e4f3_1681_2c30,
    0x4_4ad1_1688_9e7b,
    0x4_b2b8_b0aa_f3c7,
    0x5_1cb4_53b9_536c,
    0x5_88ce_a3f0_93be,
    0x5_f712_7c0a_c32a,
    0x6_678a_ee56_29f8,
    0x6_da43_45d1_e0ad,
    0x7_4f47_0750_17a0,
    0x7_c6a1_f29e_2ce6,
    0x8_4060_03b2_ae5c,
    0x8_bc8d_73e1_6610,
    0x9_3b36_bb15_8fff,
    0x9_bc68_9112_58c0,
    0xa_402f_eeb9_c533,
    0xa_c69a_0f5a_241c,
    0xb_4fb4_7202_2b1a,
    0xb_db8c_dadb_e120,
    0xc_6a31_548e_794d,
    0xc_fbb0_31a7_41a5,
    0xd_9018_0e09_c9e4,
    0xe_2777_d067_6770,
    0xe_c1de_abbe_3c14,
    0xf_5f5c_20df_e5f2,
    ONE,
];

/// The fraction bits of 2·lo·hi / (lo + hi), rounded to nearest: the value that is relatively closest to both ends of a bin.
const REPRESENTATIVES: [u64; 35] = [
    0x0_288e_c48c_67ea,
    0x0_7b4b_a5be_330b,
    0x0_cfb0_2dc4_a483,
    0x1_25c4_d5e5_273c,
    0x1_7d92_42c8_b609,
    0x1_d721_455a_06f2,
    0x2_327a_dba8_2811,
    0x2_8fa8_31cd_a4d8,
    0x2_eeb2_a2dc_4adc,
    0x3_4fa3_b9cd_a5dd,
    0x3_b285_3278_4b30,
    0x4_1760_fa8a_0d2f,
    0x4_7e41_3287_2fc8,
    0x4_e730_2ece_b7c7,
    0x5_5238_78a3_ef12,
    0x5_bf64_cf3d_386a,
    0x6_2ec0_28d8_4de9,
    0x6_a055_b3d4_0606,
    0x7_1430_d7cf_bb54,
    0x7_8a5d_36d0_73eb,
    0x8_02e6_ae6b_e5e1,
    0x8_7dd9_58f9_76d8,
    0x8_fb41_8ec9_5547,
    0x9_7b2b_e761_cab6,
    0x9_fda5_3ac2_e6c9,
    0xa_82ba_a2b0_a39d,
    0xb_0a79_7c03_a49c,
    0xb_94ef_6800_b198,
    0xc_222a_4db7_10a8,
    0xc_b238_5b65_e1f3,
    0xd_4528_07e8_a156,
    0xd_db08_142a_f271,
    0xe_73e7_8ca3_dc70,
    0xf_0fd5_cad8_9bb8,
    0xf_aee2_76e7_302d,
];

/// A slot is 1/64 of an octave, narrower than any bin, so that at most one border lies within it.
const SLOT_SHIFT: u32 = FRACTION_BITS - 6;
/// The bin in which each slot begins.
const SLOTS: [u8; 64] = bins_at_slots();

/// The bin of a positive finite value.
#[inline]
pub(super) fn index_of(magnitude: f64) -> i32 {
    let bits = magnitude.to_bits();
    if bits < ONE {
        return index_of_subnormal(bits);
    }
    index_in((bits >> FRACTION_BITS) as i32 - 1023, bits & (ONE - 1))
}

/// The value that speaks for a bin from [`LOWEST`] to [`HIGHEST`]. It may exceed the greatest value in the bin: clamp it.
pub(super) fn representative(index: i32) -> f64 {
    if index < FULL {
        return f64::from_bits((index - LOWEST + 1) as u64);
    }
    let exponent = index.div_euclid(PER_OCTAVE);
    let fraction = REPRESENTATIVES[index.rem_euclid(PER_OCTAVE) as usize];
    if exponent >= -1022 {
        return f64::from_bits((((exponent + 1023) as u64) << FRACTION_BITS) | fraction);
    }
    let shift = -1022 - exponent;
    let half = 1 << (shift - 1);
    f64::from_bits((ONE + fraction + half) >> shift)
}

/// Subnormals by their true exponent, the smallest by themselves. `units` of 2^-1074, not 0.
#[cold]
fn index_of_subnormal(units: u64) -> i32 {
    if units < FULL_UNITS {
        return LOWEST - 1 + units as i32;
    }
    let shift = units.leading_zeros() - (63 - FRACTION_BITS);
    index_in(-1022 - shift as i32, (units << shift) & (ONE - 1))
}

#[inline]
fn index_in(exponent: i32, fraction: u64) -> i32 {
    let bin = usize::from(SLOTS[(fraction >> SLOT_SHIFT) as usize]);
    exponent * PER_OCTAVE + bin as i32 + i32::from(fraction >= BOUNDS[bin + 1])
}

const fn bins_at_slots() -> [u8; 64] {
    let mut slots = [0; 64];
    let (mut slot, mut bin) = (0, 0);
    while slot < slots.len() {
        while (slot as u64) << SLOT_SHIFT >= BOUNDS[bin + 1] {
            bin += 1;
        }
        slots[slot] = bin as u8;
        slot += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_octave(fraction: u64) -> f64 {
        f64::from_bits((1023 << FRACTION_BITS) + fraction)
    }

    #[test]
    fn the_tables_are_what_the_formulas_say_to_within_an_ulp() {
        for i in 0..35 {
            let (lo, hi) = ((i as f64 / 35.0).exp2(), ((i + 1) as f64 / 35.0).exp2());
            assert!((in_octave(BOUNDS[i]) - lo).abs() <= f64::EPSILON, "bound {i}");
            let middle = 2.0 * lo * hi / (lo + hi);
            assert!((in_octave(REPRESENTATIVES[i]) - middle).abs() <= 2.0 * f64::EPSILON, "representative {i}");
        }
    }

    #[test]
    fn no_value_of_a_bin_is_further_than_the_bound_from_its_representative() {
        for i in 0..35 {
            let (lo, hi, middle) = (in_octave(BOUNDS[i]), in_octave(BOUNDS[i + 1]), in_octave(REPRESENTATIVES[i]));
            assert!((middle - lo) / lo < 0.009_902 && (hi - middle) / hi < 0.009_902, "bin {i}");
        }
    }

    #[test]
    fn a_border_opens_the_next_bin() {
        for exponent in [-1022i32, -3, 0, 7, 1023] {
            for (i, &bound) in BOUNDS[..35].iter().enumerate() {
                let bits = (((exponent + 1023) as u64) << FRACTION_BITS) + bound;
                let index = exponent * 35 + i as i32;
                assert_eq!(index_of(f64::from_bits(bits)), index);
                assert_eq!(index_of(f64::from_bits(bits - 1)), index - 1);
            }
        }
    }

    #[test]
    fn every_bin_is_the_bin_of_its_representative() {
        assert_eq!(index_of(f64::from_bits(1)), LOWEST);
        assert_eq!(index_of(f64::MAX), HIGHEST);
        for index in LOWEST..=HIGHEST {
            assert_eq!(index_of(representative(index)), index);
        }
    }

    #[test]
    fn subnormals_keep_the_bound() {
        for units in (1..200_000).chain((17..52).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 12_345])) {
            let middle = representative(index_of(f64::from_bits(units))).to_bits();
            assert!(middle.abs_diff(units) as f64 <= 0.01 * units as f64, "{units} units became {middle}");
        }
    }
}
