"""Prints every day that the public package chinesecalendar knows, from 2020 on, and whether it is worked.

The State Council publishes a year's arrangement late in the year before: a package that knows less than a year prints none of it.
"""

import datetime

import chinese_calendar

for year in range(2020, 2100):
    first, last = datetime.date(year, 1, 1), datetime.date(year, 12, 31)
    try:
        chinese_calendar.is_workday(first), chinese_calendar.is_workday(last)
    except NotImplementedError:
        break
    for day in (first + datetime.timedelta(days=n) for n in range((last - first).days + 1)):
        print(day.isoformat(), "worked" if chinese_calendar.is_workday(day) else "off")
