//! The pictures of a report, as SVG.

use anyhow::anyhow;
use hdrhistogram::Histogram;
use plotters::{prelude::*, style::full_palette};

use crate::sample::{Sample, Usage};

const SIZE: (u32, u32) = (640, 300);
const COLOURS: [RGBColor; 7] = [
    full_palette::BLUE_600,
    full_palette::ORANGE_700,
    full_palette::GREEN_600,
    full_palette::PURPLE_400,
    full_palette::RED_600,
    full_palette::BROWN_500,
    full_palette::GREY_700,
];

/// A line of a picture: its name and its points.
type Curve = (String, Vec<(f64, f64)>);

/// MB a second, acknowledged and receipted.
pub fn rates(usage: &Usage) -> anyhow::Result<String> {
    let rate = |of: fn(&Sample) -> u64| between(&usage.samples, |sample| of(sample) as f64 / 1e6);
    picture(
        "MB a second",
        "seconds",
        vec![
            ("acknowledged".into(), rate(|sample| sample.accepted)),
            ("receipted".into(), rate(|sample| sample.receipted)),
        ],
    )
}

/// MB that are acknowledged and have no receipt.
pub fn backlog(usage: &Usage) -> anyhow::Result<String> {
    let points = |sample: &Sample| (sample.at, (sample.accepted as f64 - sample.receipted as f64).max(0.0) / 1e6);
    picture(
        "MB acknowledged without receipt",
        "seconds",
        vec![("backlog".into(), usage.samples.iter().map(points).collect())],
    )
}

/// Cores that each process used.
pub fn processors(usage: &Usage) -> anyhow::Result<String> {
    let curve = |place: usize| between(&usage.samples, move |sample| sample.processes[place].0);
    let curves = usage.names.iter().enumerate().map(|(place, name)| (name.clone(), curve(place)));
    picture("cores", "seconds", curves.collect())
}

/// Resident memory of each process, in MiB.
pub fn memory(usage: &Usage) -> anyhow::Result<String> {
    let points = |place: usize| {
        let mib = move |sample: &Sample| (sample.at, sample.processes[place].1 as f64 / f64::from(1 << 20));
        usage.samples.iter().map(mib).collect()
    };
    let curves = usage.names.iter().enumerate().map(|(place, name)| (name.clone(), points(place)));
    picture("memory, MiB", "seconds", curves.collect())
}

/// Seconds by percentile.
pub fn latencies(histograms: &[(&str, Histogram<u64>)]) -> anyhow::Result<String> {
    let points = |histogram: &Histogram<u64>| {
        let percents = (0..=1000).map(|step| f64::from(step) / 10.0);
        percents.map(|percent| (percent, histogram.value_at_percentile(percent) as f64 / 1e6)).collect()
    };
    let curves = histograms.iter().map(|(name, histogram)| ((*name).to_owned(), points(histogram)));
    picture("seconds", "percentile", curves.collect())
}

/// A look so soon after another, the last one, shows no rate.
const SHORT: f64 = 0.25;

/// How fast a number grew, a second, between each look and the next.
fn between(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let pairs = samples.windows(2).filter(|pair| pair[1].at - pair[0].at > SHORT);
    pairs.map(|pair| (pair[1].at, (of(&pair[1]) - of(&pair[0])) / (pair[1].at - pair[0].at))).collect()
}

fn picture(title: &str, below: &str, curves: Vec<Curve>) -> anyhow::Result<String> {
    let most = |of: fn(&(f64, f64)) -> f64| {
        let values = curves.iter().flat_map(|(_, points)| points).map(of);
        values.fold(0.0, f64::max).max(1e-3) * 1.05
    };
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let mut svg = String::new();
    draw(&mut svg, title, below, &curves, right, top).map_err(|error| anyhow!("draw {title}: {error}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    below: &str,
    curves: &[Curve],
    right: f64,
    top: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc(below).draw()?;
    for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(name).legend(legend);
    }
    if curves.len() > 1 {
        let labels = chart.configure_series_labels();
        let mut labels = labels;
        labels.background_style(WHITE.mix(0.8)).border_style(full_palette::GREY_300).draw()?;
    }
    area.present()?;
    Ok(())
}
