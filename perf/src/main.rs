//! `plinth-perf`: load generator and laboratory for servers of the etcd v3 API.
//!
//! The tour: [`workload`] says what is sent, [`pace`] when it is due, [`drive`] sends it over [`lean`] or [`grpc`]
//! and records with [`measure`]; [`process`] reads what the server used, [`server`] starts and ends servers, with [`certificates`]
//! and [`users`] if asked to; an [`endpoint`] is where they are; [`scenario`] puts
//! these together into experiments, [`report`], [`plot`] and [`flame`] show the results. [`throttle`] makes a disk
//! slow.
//!
//! The generator shares the machine with the server it measures, so it is built to be cheap and always reports
//! its own processor time beside the server's.

#![deny(unsafe_code)]

mod certificates;
mod cli;
mod drive;
mod endpoint;
mod failure;
mod flame;
mod grpc;
mod lean;
mod measure;
mod pace;
mod plot;
mod prepare;
mod process;
mod report;
mod scenario;
mod server;
#[allow(unsafe_code)]
mod sys;
mod throttle;
mod users;
mod workload;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => scenario::run(&arguments),
        Command::Compare(arguments) => scenario::compare(&arguments),
        Command::Restart(arguments) => scenario::restart(&arguments),
        Command::Single(arguments) => scenario::single(&arguments),
        Command::Idle(arguments) => scenario::idle(&arguments),
        Command::Low(arguments) => scenario::low(&arguments),
        Command::Floor(arguments) => scenario::floor(&arguments),
        Command::Disturb(arguments) => scenario::disturb(&arguments),
        Command::Growth(arguments) => scenario::growth(&arguments),
        Command::Failover(arguments) => scenario::failover(&arguments),
        Command::CatchUp(arguments) => scenario::catch_up(&arguments),
        Command::Budget(arguments) => scenario::budget(&arguments),
        Command::Handshakes(arguments) => scenario::handshakes(&arguments),
        Command::Storm(arguments) => scenario::storm(&arguments),
        Command::Flame(arguments) => flame::flame(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plinth-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
