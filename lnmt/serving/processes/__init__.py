"""The service as processes: one supervisor that binds the socket, workers that answer.

board.py       what they tell each other, in memory that all of them share
plan.py        how many workers and engine threads a machine gets
sockets.py     the listening socket, bound once
supervisor.py  starts workers, replaces those that die or hang, drains and stops them
worker.py      one worker: the app on Uvicorn
http.py        Uvicorn with bounds on what a connection may keep waiting
"""
