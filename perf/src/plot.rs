//! Plots as SVG: percentile curves, latency over time, and processor time per request, of all servers of a
//! measurement in one picture.

use crate::failure::Failure;
use crate::measure::Latency;
use crate::report::Report;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fs;
use std::path::Path;

const SIZE: (u32, u32) = (900, 480);
const TEXT: (&str, u32) = ("sans-serif", 15);
const TITLE: (&str, u32) = ("sans-serif", 20);
/// One colour per server, told apart also without colour vision.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// A named line.
pub struct Line {
    /// What the legend says.
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A named stretch of time, shown as a band behind the lines.
pub struct Band {
    /// What stands at its top.
    pub name: String,
    /// From and to, in seconds.
    pub span: (f64, f64),
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all plots of a measurement into `folder`, the file names beginning with `name`. `flushes` are the figures of the
/// disk alone, one per workload in the order of the reports; none were measured where they are empty.
pub fn reports(folder: &Path, name: &str, reports: &[Report], flushes: &[Latency]) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut groups: Vec<Vec<&Report>> = Vec::new();
    for report in reports {
        match groups.iter_mut().find(|group| group[0].spec == report.spec) {
            Some(group) => group.push(report),
            None => groups.push(vec![report]),
        }
    }
    for (group, flush) in groups.iter().zip(flushes) {
        let workload = group[0].spec.kind.name();
        let flush = (flush.count > 0 && group[0].spec.kind.writes()).then_some(flush);
        percentiles(&folder.join(format!("{name}-{workload}-percentiles.svg")), group, flush)?;
        let p99 = |report: &&Report| Line {
            name: report.server.clone(),
            points: report.main_class().series.iter().map(|point| (point.seconds, point.p99)).collect(),
        };
        let lines: Vec<Line> = group.iter().map(p99).collect();
        let title = format!("{workload}: p99 latency over time");
        over_time(&folder.join(format!("{name}-{workload}-time.svg")), &title, &lines, &[])?;
    }
    cpu(&folder.join(format!("{name}-cpu.svg")), &groups)
}

fn percentiles(path: &Path, group: &[&Report], flush: Option<&Latency>) -> Result<(), Failure> {
    let line = |report: &&Report| Line {
        name: report.server.clone(),
        points: report.main_class().curve.iter().map(|point| (-point.beyond.log10(), point.micros)).collect(),
    };
    let mut lines: Vec<Line> = group.iter().map(line).collect();
    if let Some(flush) = flush {
        let nines = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(1.0, f64::max);
        lines.push(Line {
            name: "a flush alone, median".to_owned(),
            points: vec![(0.0, flush.p50), (nines, flush.p50)],
        });
    }
    let area = open(path)?;
    let title = format!("{}: latency by percentile", group[0].spec.kind.name());
    let label = |nines: &f64| match *nines {
        nines if nines < 0.5 => "0 %".to_owned(),
        nines => {
            let decimals = (nines.round() as usize).saturating_sub(2);
            format!("{:.decimals$} %", 100.0 - 100.0 * 10f64.powf(-nines.round()))
        }
    };
    draw(&area, &title, "requests answered within", &lines, &[], &label)?;
    finish(&area)
}

/// Latency in microseconds, on a logarithmic axis, over seconds.
pub fn over_time(path: &Path, title: &str, lines: &[Line], bands: &[Band]) -> Result<(), Failure> {
    let area = open(path)?;
    draw(&area, title, "seconds", lines, bands, &|seconds| format!("{seconds:.0}"))?;
    finish(&area)
}

/// One of several small charts of a picture: any quantity over the number of keys, both axes logarithmic.
pub struct KeyChart {
    /// What stands above it, with the unit.
    pub title: String,
    pub lines: Vec<Line>,
}

/// Draws charts side by side, two in a row.
pub fn over_keys(path: &Path, charts: &[KeyChart]) -> Result<(), Failure> {
    let rows = charts.len().div_ceil(2);
    let size = (SIZE.0, 300 * u32::try_from(rows).expect("few charts"));
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, chart) in area.split_evenly((rows, 2)).iter().zip(charts) {
        draw_key_chart(area, chart)?;
    }
    finish(&area)
}

fn draw_key_chart(area: &Area<'_>, chart: &KeyChart) -> Result<(), Failure> {
    let points = || chart.lines.iter().flat_map(|line| &line.points).filter(|point| point.1 > 0.0);
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            points().map(value).fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if low.is_finite() { (low / 2.0, high * 2.0) } else { (0.5, 2.0) }
    };
    let ((left, right), (low, high)) = (bounds(|point| point.0), bounds(|point| point.1));
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, TEXT)
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
    context
        .configure_mesh()
        .x_desc("keys")
        .x_labels(6)
        .y_labels(4)
        .x_label_formatter(&|keys| short(*keys))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, line) in chart.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<(f64, f64)> = line.points.iter().copied().filter(|point| point.1 > 0.0).collect();
        context.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3));
        context.draw_series(LineSeries::new(points, colour.stroke_width(2)))?.label(&line.name).legend(legend);
    }
    let labels = context.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(TEXT).draw();
    Ok(labels?)
}

/// A number as briefly as it can be read: 10 k, 1 M, 0.25.
fn short(value: f64) -> String {
    match value {
        value if value >= 0.999e6 => format!("{:.0} M", value / 1e6),
        value if value >= 0.999e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value}"),
    }
}

fn open(path: &Path) -> Result<Area<'_>, Failure> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

fn finish(area: &Area<'_>) -> Result<(), Failure> {
    area.present()?;
    Ok(())
}

fn draw(
    area: &Area<'_>,
    title: &str,
    x_name: &str,
    lines: &[Line],
    bands: &[Band],
    x_label: &dyn Fn(&f64) -> String,
) -> Result<(), Failure> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let low = points().map(|point| point.1).filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.1).fold(1.0, f64::max);
    let low = if low.is_finite() { low / 1.5 } else { 0.5 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..x_max, (low..high * 1.5).log_scale())?;
    for band in bands {
        let fill = RGBColor(120, 120, 120).mix(0.15).filled();
        chart.draw_series([Rectangle::new([(band.span.0, low), (band.span.1, high * 1.5)], fill)])?;
        chart.draw_series([Text::new(band.name.clone(), (band.span.0, high * 1.4), TEXT)])?;
    }
    chart
        .configure_mesh()
        .x_desc(x_name)
        .y_desc("latency")
        .x_label_formatter(x_label)
        .y_label_formatter(&|value| crate::report::micros(*value))
        .label_style(TEXT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3));
        chart.draw_series(series)?.label(&line.name).legend(legend);
    }
    // Names of bands stand at the top; without bands there is more room there than below.
    let corner = if bands.is_empty() { SeriesLabelPosition::UpperLeft } else { SeriesLabelPosition::LowerRight };
    chart
        .configure_series_labels()
        .position(corner)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(TEXT)
        .draw()?;
    Ok(())
}

/// Bars of server CPU per request (or event), one group per workload.
fn cpu(path: &Path, groups: &[Vec<&Report>]) -> Result<(), Failure> {
    let area = open(path)?;
    let reports = || groups.iter().flatten();
    let high = reports().map(|report| report.server_cpu_micros).fold(1.0, f64::max) * 1.4;
    let name = |slot: &f64| match groups.get(slot.floor() as usize) {
        Some(group) if (slot.fract() - 0.5).abs() < 0.01 => group[0].spec.kind.name(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(&area)
        .caption("server CPU per request (per event with watchers), µs", TITLE)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * groups.len() + 1)
        .x_label_formatter(&name)
        .label_style(TEXT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let mut servers: Vec<&str> = Vec::new();
    reports().for_each(|report| {
        if !servers.contains(&report.server.as_str()) {
            servers.push(&report.server);
        }
    });
    let width = 0.8 / servers.len().max(1) as f64;
    for (index, server) in servers.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let of_server = groups.iter().enumerate().filter_map(|(slot, group)| {
            let report = group.iter().find(|report| report.server == *server)?;
            Some((slot as f64 + 0.1 + width * index as f64, report.server_cpu_micros))
        });
        let bars: Vec<(f64, f64)> = of_server.collect();
        let rectangles =
            bars.iter().map(|&(left, value)| Rectangle::new([(left, 0.0), (left + width, value)], colour.filled()));
        let legend = move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled());
        chart.draw_series(rectangles)?.label(*server).legend(legend);
        let figures = bars
            .iter()
            .map(|&(left, value)| Text::new(format!("{value:.1}"), (left + width * 0.2, value + high * 0.04), TEXT));
        chart.draw_series(figures)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(TEXT)
        .draw()?;
    finish(&area)
}
