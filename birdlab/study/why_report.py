"""The page of a difference: why two runs differ, to read and to hear; it needs no network."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from birdlab.study.document import Drawing
from birdlab.study.document_html import drawing_html
from birdlab.study.listening_figures import TICKS_HZ
from birdlab.study.report import escape, list_html, page_html, section_html, table_html
from birdlab.study.sounds import Sounds
from birdlab.study.spectrogram import PLAIN, Spectrogram
from birdlab.study.svg_scales import linear_ticks
from birdlab.study.why import Why
from birdlab.study.why_figures import (
    ARM_COLOUR,
    BASE_COLOUR,
    LINES_LEGEND,
    MOVES_LEGEND,
    SHARES_LEGEND,
    get_shares_info,
    label_of,
    plot_bars,
    step_line,
)
from birdlab.study.why_hearing import HeardTwice, Line
from birdlab.study.why_sounds import Embedded, embed_heard
from birdlab.study.why_words import recording_sentences, recordings_words, species_words

PAGE_BYTES = 15_000_000
"""A page is at most about so large; sounds of the recordings that move least are left out first."""
LEFT_OUT = "Its sound is not in this page, which would be over 15 MB."
STYLE = (
    "<style>.heard{display:grid;grid-template-columns:4.6rem minmax(0,1fr);gap:.25rem .5rem;"
    "overflow-wrap:anywhere}"
    ".heard .side{position:relative;font-size:.75rem;color:var(--soft);text-align:right;"
    "overflow-wrap:anywhere}.heard .side span{position:absolute;right:0;transform:translateY(-50%)}"
    ".heard .track{position:relative;overflow:hidden}.heard .image{height:9rem;background:"
    "var(--card)}.heard .image img{position:absolute;left:0;top:0;height:100%}"
    ".heard .lane{height:3.6rem;background:var(--card)}.heard svg{position:absolute;width:100%;"
    "height:100%}.heard svg *{vector-effect:non-scaling-stroke;fill:none;stroke-width:2}"
    ".heard .clock{height:1.1rem;font-size:.75rem;color:var(--soft)}.heard .clock span{position:"
    "absolute;transform:translateX(-50%)}.heard .clock span:first-child{transform:none}"
    ".heard .part{position:absolute;bottom:0;height:4px;background:#fff;opacity:.8}"
    ".heard .head{position:absolute;top:0;bottom:0;width:2px;background:#fff;mix-blend-mode:"
    "difference;pointer-events:none;display:none}.heard .track.plays{cursor:pointer}"
    f".key::before{{content:'';display:inline-block;width:1.2rem;height:3px;margin:0 .35rem .2rem "
    f"0;background:{BASE_COLOUR}}}.key.arm::before{{margin-left:.9rem;background:{ARM_COLOUR}}}"
    "section.recording{border-top:1px solid var(--line);margin-top:1.4rem}</style>"
)
SCRIPT = """<script>
for (const audio of document.querySelectorAll('audio[data-start]')) {
  const heard = audio.closest('section').querySelector('.heard');
  const start = +audio.dataset.start, begin = +heard.dataset.begin, long = +heard.dataset.seconds;
  const place = () => {
    for (const head of heard.querySelectorAll('.head')) {
      head.style.display = 'block';
      head.style.left = 100 * (start + audio.currentTime - begin) / long + '%';
    }
    if (!audio.paused) requestAnimationFrame(place);
  };
  audio.addEventListener('play', place);
  audio.addEventListener('seeked', place);
  for (const track of heard.querySelectorAll('.track.plays')) {
    track.addEventListener('click', event => {
      const box = track.getBoundingClientRect();
      const second = begin + long * (event.clientX - box.left) / box.width - start;
      audio.currentTime = Math.max(0, second);
      audio.play();
    });
  }
}
</script>"""
"""Shows on image and lines where a sound is, and plays it from where they are clicked."""


def why_html(
    why: Why,
    heard: Iterable[HeardTwice | str],
    sounds: Sounds,
    *,
    next_commands: Iterable[str] = (),
) -> str:
    """The page: the answer, the verdict, what species add, and each recording to see and to hear.

    heard: for each of `why.recordings` in order, or in words why there is nothing to show. Names
    are text. At most about 15 MB: beyond that recordings are shown without their sound, and say so.
    """
    caption = f"{why.arm} against {why.base}. {SHARES_LEGEND}"
    figure = plot_bars(get_shares_info(why), f"difference in {why.split.metric}")
    rows = why.recordings.to_dict("records")
    parts = [
        STYLE,
        f"<p class='answer'>{escape(why.answer)}</p>",
        list_html(why.sentences),
    ]
    if len(why.species):
        parts += [
            section_html(
                "What each species adds", drawing_html(Drawing("species", figure, caption))
            ),
            table_html(species_words(why)),
        ]
    parts += [
        section_html("The recordings that move most", table_html(recordings_words(why))),
        f"<p class='soft'>{escape(MOVES_LEGEND.partition('. ')[0])}.</p>",
        f"<p class='soft'>{escape(PLAIN)} Below it: {_key(why)}. {escape(LINES_LEGEND)} A click on "
        "image or lines plays from there.</p>",
    ]
    used = sum(map(len, parts))
    for row, one in zip(rows, heard, strict=True):
        text = _recording_html(row, one, why, sounds, PAGE_BYTES - used)
        used += len(text)
        parts.append(text)
    commands = "".join(f"{escape(command)}\n" for command in next_commands)
    if commands:
        parts.append(section_html("Next", f"<pre class='scroll'>{commands}</pre>"))
    return page_html(f"Why {why.arm} differs from {why.base}", [*parts, SCRIPT])


def _recording_html(
    row: Mapping[Hashable, Any], one: HeardTwice | str, why: Why, sounds: Sounds, room: int
) -> str:
    """A recording as a section, of at most about `room` bytes."""
    title = f"{row['recording']} moves {row['influence']:+.4f}"
    if isinstance(one, str):
        inside = f"<p>{escape(one)}</p>{list_html(recording_sentences(row, None, why))}"
        return section_html(title, inside, "recording")
    held = embed_heard(one, sounds)
    if held.audio and held.n_bytes > room:
        held = replace(held, audio="", said=LEFT_OUT)
    if len(held.image) > room:
        held = replace(held, image="", spectrogram=None)
    player = (
        f"<audio class='player' controls preload='none' data-start='{held.start_s:.3f}' "
        f"aria-label='{escape(f'Play {one.recording}')}' src='{held.audio}'></audio>"
        if held.audio
        else ""
    )
    said = f"<p class='soft'>{escape(held.said)}</p>" if held.said else ""
    words = list_html(recording_sentences(row, one, why))
    return section_html(title, _heard_html(one, held, why) + player + said + words, "recording")


def _heard_html(one: HeardTwice, held: Embedded, why: Why) -> str:
    """Image and lines above each other, each as wide as the page and on one clock.

    Where the sound is there they end with it: what windows hold beyond it is silence.
    """
    if held.image:
        one = replace(one, end_s=min(one.end_s, held.image_s))
    length = one.end_s - one.begin_s
    plays = " plays" if held.audio else ""
    parts = []
    if held.image and held.spectrogram is not None:
        wide = 100 * (held.image_s - held.from_s) / length
        part = (
            f"<div class='part' style='left:{100 * (held.start_s - one.begin_s) / length:.2f}%;"
            f"width:{100 * held.seconds / length:.2f}%'></div>"
            if held.audio and held.said
            else ""
        )
        parts.append(
            f"<div class='side'>{_hz_ticks(held.spectrogram)}</div><div class='track image{plays}'>"
            f"<img alt='{escape(f'spectrogram of {one.recording}')}' src='{held.image}' "
            f"style='width:{wide:.2f}%'>{part}<div class='head'></div></div>"
        )
    for code in one.codes:
        a, b = one.lines[code]
        said = f"{code}: {why.base} at most {max(a.probs):.3f}, {why.arm} {max(b.probs):.3f}"
        parts.append(
            f"<div class='side'>{label_of(one, code)}<br>{max(a.probs):.2f} → {max(b.probs):.2f}"
            f"</div><div class='track lane{plays}' role='img' aria-label='{escape(said)}'>"
            f"{_lane_svg(one, a, b)}<div class='head'></div></div>"
        )
    parts.append(f"<div></div><div class='track clock'>{_clock(one.begin_s, one.end_s)}</div>")
    parts.append(f"<div></div><div class='soft'>{_key(why)}</div>")
    head = f"data-begin='{one.begin_s:.3f}' data-seconds='{length:.3f}'"
    return f"<div class='heard' {head}>{''.join(parts)}</div>"


def _key(why: Why) -> str:
    """Which colour is which run."""
    return (
        f"<span class='key'>{escape(why.base)}</span><span class='key arm'>{escape(why.arm)}</span>"
    )


def _lane_svg(one: HeardTwice, a: Line, b: Line) -> str:
    """Both lines of a species over 1,000 by 100 units, stretched to the page."""
    width = one.end_s - one.begin_s
    drawn = []
    for line, colour in ((a, BASE_COLOUR), (b, ARM_COLOUR)):
        places = (
            f"{1000 * (x - one.begin_s) / width:.1f},{97 - 94 * y:.1f}"
            for x, y in zip(*step_line(line), strict=True)
        )
        drawn.append(f"<polyline points='{' '.join(places)}' stroke='{colour}'/>")
    half = "<path d='M0 50H1000' stroke='#88888866' stroke-dasharray='2 4' style='stroke-width:1'/>"
    return (
        f"<svg viewBox='0 0 1000 100' preserveAspectRatio='none' aria-hidden='true'>{half}"
        f"{''.join(drawn)}</svg>"
    )


def _hz_ticks(image: Spectrogram) -> str:
    """Frequencies beside the image, which has bands of equal height."""
    bands = image.bands_hz
    n = len(bands)
    ticks = []
    for hz in TICKS_HZ:
        if bands[0] <= hz <= bands[-1]:
            above = sum(band > hz for band in bands)
            ticks.append(f"<span style='top:{100 * above / n:.1f}%'>{hz / 1000:g} kHz</span>")
    return "".join(ticks)


def _clock(begin_s: float, end_s: float) -> str:
    def places() -> Iterator[str]:
        _, found = linear_ticks(begin_s, end_s, 8)
        for second in found:
            at = 100 * (second - begin_s) / (end_s - begin_s)
            if at < 96:
                yield f"<span style='left:{at:.2f}%'>{second:g} s</span>"

    return "".join(places())
