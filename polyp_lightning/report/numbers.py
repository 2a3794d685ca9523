"""Numbers as text."""

import math

DASH = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, or a dash where there is none.

    >>> number(0.12345), number(float("nan"))
    ('0.123', '–')
    """
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(mean: float, deviation: float, digits: int = 3) -> str:
    """A mean with its standard deviation, where there is one.

    >>> spread(0.8612, 0.0049), spread(0.8612, float("nan"))
    ('0.861 ± 0.005', '0.861')
    """
    return number(mean, digits) + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign.

    >>> signed(0.02), signed(-0.02)
    ('+0.020', '−0.020')
    """
    return DASH if math.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value to three decimals, below which its size says nothing more.

    >>> p_value(0.0312), p_value(0.0001)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else number(p)


def percent(share: float) -> str:
    """A share without needless decimals.

    >>> percent(0.125), percent(0.25)
    ('12.5 %', '25 %')
    """
    return f"{100 * share:.3g} %"


def thousands(count: float) -> str:
    """A count of parameters.

    >>> thousands(5_202_769), thousands(291_580)
    ('5.20 M', '0.29 M')
    """
    return DASH if math.isnan(count) else f"{count / 1e6:.2f} M"
